#!/bin/sh
# PostgreSQL: a process per connection; psql with large results and COPY, and
# pgbench. Also a connection that is left idle and cancelled.
settings="FASTSOCK_UPGRADE_AFTER=2"
. "$(dirname "$0")/frame.inc"
pg=$(find /usr/lib/postgresql -name initdb 2>/dev/null | sort -V | tail -n 1)
[ -n "$pg" ] || skip "PostgreSQL is missing: make deps-long names the packages"
pg=${pg%/initdb}
PATH=$pg:$PATH
needs postgres psql pgbench

# It refuses to be root; both ends have to be the same user.
as=
if [ "$(id -u)" -eq 0 ]; then
    as="setpriv --reuid=postgres --regid=postgres --clear-groups --"
    chown postgres "$dir"
fi
export HOME="$dir"
$as initdb -D "$dir/data" -U tester -A trust -N --no-locale -E UTF8 \
    >"$dir/initdb" 2>&1 || fail "initdb: $(tail -n 3 "$dir/initdb")"

server() {
    launch postgres $as postgres -D "$dir/data" -p "$port" -h 127.0.0.1 \
        -k "$dir" -c fsync=off -c max_connections=40 -c autovacuum=off
    wait_for_port "$port"
    tries=0
    until env -u LD_PRELOAD psql -h 127.0.0.1 -p "$port" -U tester -d postgres \
        -c 'select 1' >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || return 1
        sleep 0.05
    done
}

sql() {
    ours $as psql -X -q -h 127.0.0.1 -p "$port" -U tester -d postgres -At "$@"
}

client() {
    sql <<'END'
drop table if exists t;
create table t (i int primary key, s text);
insert into t select i, repeat(md5(i::text), 1 + i % 40) from
    generate_series(1, 20000) i;
select count(*), sum(length(s)), md5(string_agg(s, '' order by i)) from t;
\set VERBOSITY verbose
select 1 / 0;
set statement_timeout = 300;
select pg_sleep(5);
END
    echo "exit $?"
    sql -c 'select s from t order by i' | sum
    sql -c 'copy t to stdout' >"$dir/copy"
    sum <"$dir/copy"
    sql -c 'create temp table u (like t)' -c '\copy u from '"$dir/copy" \
        -c 'select count(*), md5(string_agg(s, i::text order by i)) from u'
    ours $as pgbench -i -q -s 1 -h 127.0.0.1 -p "$port" -U tester postgres \
        >"$dir/pgbench" 2>&1
    echo "pgbench -i exit $?"
    ours $as pgbench -c 4 -j 2 -t 150 -M prepared --random-seed=5 \
        -h 127.0.0.1 -p "$port" -U tester postgres >"$dir/pgbench" 2>&1
    echo "pgbench exit $?"
    grep -E 'transactions actually|failed' "$dir/pgbench"
    sql -c 'select sum(abalance) from pgbench_accounts' \
        -c 'select count(*), sum(delta) from pgbench_history' |
        awk 'NR == 1 { a = $1 } NR == 2 { split($1, x, "|"); print x[1], a == x[2] }'
}

end_with=INT
combine
done_with "$(postgres --version | cut -d ' ' -f 3)"
