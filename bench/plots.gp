# One picture of bench/plots.sh: what (its name), data (a folder), out, machine.
set terminal svg size 640,400 font "sans,12" background "white"
set output out
set grid xtics ytics linetype 1 linecolor rgb "#dddddd"
set key outside top center horizontal
set format y "%g"
set logscale xy
set label machine at graph 1, screen 0.02 right font "sans,9" \
    textcolor rgb "#777777"
set bmargin 5

K = "#b03030"; S = "#c08020"; U = "#608030"; L = "#2050a0"

if (what eq "latency") {
    set title "memcached, GET of 64 bytes: p50"
    set xlabel "connections"
    set ylabel "microseconds"
    set xrange [0.8:40]
    set xtics (1, 4, 32)
    plot data."/memcached-K" using 1:2:3:4 with yerrorlines lc rgb K lw 2 \
            title "kernel TCP", \
        data."/memcached-S" using 1:2:3:4 with yerrorlines lc rgb S lw 2 \
            title "kernel TCP, both ends spinning", \
        data."/memcached-L" using 1:2:3:4 with yerrorlines lc rgb L lw 2 \
            title "with the library"
}
if (what eq "throughput") {
    set title "one-way stream"
    set xlabel "bytes of a write"
    set ylabel "MB/s"
    set xrange [40:2000000]
    set xtics ("64" 64, "1 Ki" 1024, "4 Ki" 4096, "64 Ki" 65536, \
        "1 Mi" 1048576)
    plot data."/streams-K" using 1:2:3:4 with yerrorlines lc rgb K lw 2 \
            title "kernel TCP", \
        data."/streams-U" using 1:2:3:4 with yerrorlines lc rgb U lw 2 \
            title "Unix sockets", \
        data."/streams-L" using 1:2:3:4 with yerrorlines lc rgb L lw 2 \
            title "with the library"
}
if (what eq "distribution") {
    set title "memcached, GET of 64 bytes, 1 connection"
    set xlabel "share of requests that take longer, per cent"
    set ylabel "microseconds"
    set xrange [100:0.01]
    set xtics ("90" 90, "50" 50, "10" 10, "1" 1, "0.1" 0.1, "0.01" 0.01)
    plot data."/distribution-K" with linespoints lc rgb K lw 2 \
            title "kernel TCP", \
        data."/distribution-S" with linespoints lc rgb S lw 2 \
            title "kernel TCP, both ends spinning", \
        data."/distribution-L" with linespoints lc rgb L lw 2 \
            title "with the library"
}
if (what eq "idle") {
    set title "memcached, GET of 64 bytes, 1 active connection: p50"
    set xlabel "connections that rest beside it"
    set ylabel "microseconds"
    set xrange [0.5:20000]
    set xtics ("none" 1, "100" 100, "1,000" 1000, "10,000" 10000)
    plot data."/among-K" using ($1 > 0 ? $1 : 1):2:3:4 with yerrorlines \
            lc rgb K lw 2 title "kernel TCP", \
        data."/among-L" using ($1 > 0 ? $1 : 1):2:3:4 with yerrorlines \
            lc rgb L lw 2 title "with the library"
}
