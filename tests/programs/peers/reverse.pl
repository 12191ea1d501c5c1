# reverse.pl server|client PORT ...: see README.md of this folder.
use strict;
use warnings;
use Digest::SHA;
use IO::Select;
use IO::Socket::INET;

my @sizes = (1, 10, 100, 1000, 10000, 100000);
my ($role, $port, $file, $connections, $rounds) = @ARGV;

sub serve_one {
    my ($s) = @_;
    $s->autoflush(1);
    while (read($s, my $head, 4)) {
        read($s, my $body, unpack("N", $head));
        print $s $head, scalar reverse $body;
    }
    close $s;
}

# A process for each connection; or all in one, by select and sysread.
sub serve {
    my ($mode) = @_;
    my $listener = IO::Socket::INET->new(
        LocalAddr => "127.0.0.1", LocalPort => $port, Listen => 50,
        ReuseAddr => 1) or die "listen: $@";
    $SIG{TERM} = sub { exit 0 };
    $SIG{CHLD} = "IGNORE";
    if ($mode eq "fork") {
        while (1) {
            my $s = $listener->accept or next;
            if (!fork) {
                serve_one($s);
                exit 0;
            }
            close $s;
        }
    }
    my $all = IO::Select->new($listener);
    my %in;
    while (1) {
        for my $s ($all->can_read) {
            if ($s == $listener) {
                my $new = $listener->accept;
                $all->add($new);
                $in{$new} = "";
                next;
            }
            if (!sysread($s, $in{$s}, 65536, length $in{$s})) {
                $all->remove($s);
                delete $in{$s};
                close $s;
                next;
            }
            while (length $in{$s} >= 4) {
                my $n = unpack "N", $in{$s};
                last if length $in{$s} < 4 + $n;
                my $body = substr $in{$s}, 4, $n;
                substr($in{$s}, 0, 4 + $n) = "";
                my $out = pack("N", $n) . reverse $body;
                my $done = 0;
                while ($done < length $out) {
                    $done += syswrite($s, $out, length($out) - $done, $done)
                        // die "write: $!";
                }
            }
        }
    }
}

sub ask {
    open my $f, "<:raw", $file or die "$file: $!";
    my $blob = do { local $/; <$f> };
    my (@s, @digest);
    for my $k (0 .. $connections - 1) {
        $s[$k] = IO::Socket::INET->new("127.0.0.1:$port") or die "connect: $@";
        $s[$k]->autoflush(1);
        $digest[$k] = Digest::SHA->new(256);
    }
    for my $i (0 .. $rounds - 1) {
        my $data = substr $blob, $i * 37 % 5000, $sizes[$i % @sizes];
        print { $_ } pack("N", length $data), $data for @s;
        for my $k (0 .. $#s) {
            read($s[$k], my $head, 4) == 4 or die "short";
            read($s[$k], my $body, unpack("N", $head));
            $digest[$k]->add($body);
        }
    }
    print "$_ $rounds ", $digest[$_]->hexdigest, "\n" for 0 .. $#s;
}

$role eq "server" ? serve($file) : ask();
