#!/bin/sh
# perl, php and ruby: their own buffered streams, select, threads and forks.
settings="FASTSOCK_UPGRADE_AFTER=2"
. "$(dirname "$0")/frame.inc"
needs perl php ruby

server() {
    # shellcheck disable=SC2086
    launch server $program server "$port" "$mode"
    wait_for_port "$port"
}

client() {
    # shellcheck disable=SC2086
    ours $program client "$port" "$(blob 110000)" 4 120
}

# try VARIANT MODE PROGRAM
try() {
    mode=$2 program="$3 $here/peers/$4"
    combine "$1"
}

try perl select perl reverse.pl
try php select php reverse.php
try ruby threads ruby reverse.rb
try perl-fork fork perl reverse.pl
try ruby-fork fork ruby reverse.rb
done_with "perl $(perl -e 'printf "%vd", $^V'), php $(php -r 'echo PHP_VERSION;'), ruby $(ruby -e 'print RUBY_VERSION')"
