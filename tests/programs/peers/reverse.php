<?php
// reverse.php server|client PORT ...: see README.md of this folder.
const SIZES = [1, 10, 100, 1000, 10000, 100000];

function read_exactly($s, int $n): string
{
    $data = '';
    while (strlen($data) < $n) {
        $more = fread($s, $n - strlen($data));
        if ($more === false || ($more === '' && feof($s)))
            return $data;
        $data .= $more;
    }
    return $data;
}

function write_all($s, string $data): void
{
    while ($data !== '') {
        $n = fwrite($s, $data);
        if ($n === false)
            exit(1);
        $data = substr($data, $n);
    }
}

function serve(string $port): void
{
    $listener = stream_socket_server("tcp://127.0.0.1:$port");
    $all = [(int)$listener => $listener];
    while (true) {
        $read = $all;
        $none = null;
        if (stream_select($read, $none, $none, null) === false)
            continue;
        foreach ($read as $s) {
            if ($s === $listener) {
                $new = stream_socket_accept($listener);
                $all[(int)$new] = $new;
                continue;
            }
            $head = read_exactly($s, 4);
            if (strlen($head) < 4) {
                unset($all[(int)$s]);
                fclose($s);
                continue;
            }
            $body = read_exactly($s, unpack('N', $head)[1]);
            write_all($s, $head . strrev($body));
        }
    }
}

function ask(string $port, string $file, int $connections, int $rounds): void
{
    $blob = file_get_contents($file);
    $s = $digest = [];
    for ($k = 0; $k < $connections; $k++) {
        $s[$k] = stream_socket_client("tcp://127.0.0.1:$port");
        $digest[$k] = hash_init('sha256');
    }
    for ($i = 0; $i < $rounds; $i++) {
        $data = substr($blob, $i * 37 % 5000, SIZES[$i % count(SIZES)]);
        foreach ($s as $k => $one) {
            write_all($one, pack('N', strlen($data)) . $data);
            $n = unpack('N', read_exactly($one, 4))[1];
            hash_update($digest[$k], read_exactly($one, $n));
        }
    }
    foreach ($s as $k => $one)
        echo "$k $rounds ", hash_final($digest[$k]), "\n";
}

if ($argv[1] === 'server')
    serve($argv[2]);
else
    ask($argv[2], $argv[3], (int)$argv[4], (int)$argv[5]);
