#!/bin/sh
# Draws the pictures of docs/performance.md from a table of run.sh.
# usage: bench/plots.sh [table] [folder]   default: build/bench/table.txt
# Needs gnuplot. What was not measured leaves its picture out.
table=${1:-build/bench/table.txt} folder=${2:-build/bench}
[ -s "$table" ] || {
    echo "bench/plots.sh: no table $table: make bench makes one" >&2
    exit 2
}
if ! command -v gnuplot >/dev/null; then
    echo "bench/plots.sh: no pictures: gnuplot is not installed (make deps)"
    exit 0
fi
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
here=$(dirname "$0")

# One file for each line of a picture: x, median, smallest, largest.
points() { # row metric scale letters...
    row=$1 metric=$2 scale=$3
    shift 3
    for letter in "$@"; do
        awk -F '\t' -v row="$row" -v metric="$metric" -v letter="$letter" \
            -v scale="$scale" '
            $1 == row && $3 == letter && $4 == metric {
                print $2, $6 * scale, $7 * scale, $8 * scale
            }' "$table" | sort -n >"$tmp/$row-$letter"
    done
}

# Share of requests that took longer, and how long they took.
distribution() { # row config letters...
    row=$1 config=$2
    shift 2
    for letter in "$@"; do
        awk -F '\t' -v row="$row" -v config="$config" -v letter="$letter" '
            $1 == row && $2 == config && $3 == letter &&
                    $4 ~ /^p[0-9]+_ns$/ {
                q = substr($4, 2) + 0
                share = q > 99 ? q / 10 ^ (length(q "") - 2) : q
                print 100 - share, $6 / 1000
            }' "$table" | sort -rn >"$tmp/distribution-$letter"
    done
}

draw() { # picture file...: only when all of the files have lines
    picture=$1
    shift
    for file in "$@"; do
        [ -s "$tmp/$file" ] && continue
        echo "no $picture.svg: not measured"
        return
    done
    gnuplot -e "data='$tmp'; out='$folder/$picture.svg'; what='$picture'; \
        machine='$machine'" "$here/plots.gp" || {
        rm -f "$folder/$picture.svg"
        return
    }
    echo "$folder/$picture.svg"
}

machine=$(awk -F '\t' '/^# / { v[substr($1, 3)] = $2 }
    END { gsub(/\(R\)|\047/, "", v["cpu"])
          printf "%s, %s CPUs, %s, load %s", v["cpu"], v["cpus"],
              substr(v["date"], 1, 10), v["load"] }' "$table")
points memcached p50_ns 1e-3 K S L
points streams mb_per_second 1 K U L
points among p50_ns 1e-3 K L
distribution memcached 1 K S L
draw latency memcached-K memcached-S memcached-L
draw throughput streams-K streams-U streams-L
draw distribution distribution-K distribution-S distribution-L
draw idle among-K among-L
