#!/bin/sh
# nginx with three workers, haproxy in front of it in one variant: files to
# 100 MB, ranges, keep-alive, wrk; sendfile on and off.
. "$(dirname "$0")/frame.inc"
needs nginx haproxy curl wrk
mkdir -p "$dir/www" "$dir/tmp"
for n in 1 999 4096 65537 1000000 100000000; do
    cp "$(blob $n)" "$dir/www/f$n"
done

nginx_server() { # PORT sendfile: on|off
    cat >"$dir/nginx.conf" <<END
daemon off;
worker_processes 3;
pid $dir/tmp/nginx.pid;
$([ "$(id -u)" -ne 0 ] || echo "user root;")
events { worker_connections 512; }
http {
    access_log off;
    sendfile $2;
    client_body_temp_path $dir/tmp/body;
    proxy_temp_path $dir/tmp/proxy;
    fastcgi_temp_path $dir/tmp/fastcgi;
    uwsgi_temp_path $dir/tmp/uwsgi;
    scgi_temp_path $dir/tmp/scgi;
    keepalive_requests 100000;
    server {
        listen 127.0.0.1:$1;
        root $dir/www;
        location /moved { return 301 /f999; }
    }
}
END
    launch nginx nginx -e stderr -c "$dir/nginx.conf"
    wait_for_port "$1"
}

haproxy_server() { # FRONT BACK
    cat >"$dir/haproxy.cfg" <<END
global
    nbthread 2
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend in
    bind 127.0.0.1:$1
    default_backend out
backend out
    server one 127.0.0.1:$2
END
    launch haproxy haproxy -f "$dir/haproxy.cfg" -db
    wait_for_port "$1"
}

server() {
    case $variant in
    haproxy)
        behind=$(free_port)
        nginx_server "$behind" off && haproxy_server "$port" "$behind" ;;
    *) nginx_server "$port" "$variant" ;;
    esac
}

client() {
    at=http://127.0.0.1:$port
    ours curl -sS -w '%{http_code} %{size_download}\n' -o "$dir/got.#1" \
        "$at/f{1,999,4096,65537,1000000}" -o "$dir/got" "$at/f100000000" \
        -o "$dir/none" "$at/nothing" -o "$dir/moved" -L "$at/moved"
    echo "curl exit $?"
    for f in got.1 got.999 got.4096 got.65537 got.1000000 got moved; do
        sum <"$dir/$f"
    done
    rm -f "$dir"/got*
    ours curl -sS -r 1000-99999 "$at/f1000000" "$at/f1000000" | sum
    file=f4096
    [ "$variant" != haproxy ] || file=f1000000
    ours wrk -t 2 -c 16 -d 1s "$at/$file" >"$dir/wrk"
    echo "wrk exit $?"
    grep -E 'Socket errors|Non-2xx' "$dir/wrk"
    grep Requests/sec "$dir/wrk" >&2
}

least=100000000
combine off
combine on
inner=yes combine haproxy
done_with "nginx $(nginx -v 2>&1 | cut -d / -f 2), haproxy $(haproxy -v |
    sed -n 's/HAProxy version \([^ ]*\).*/\1/p')"
