#!/bin/sh
# Every relative link, every file and every `function()` that a *.md file names
# exists. A path counts from the root or from the file's own folder; a name
# without a folder may be anywhere; * is a glob; what contains <> is no name.
cd "$(dirname "$0")/.." || exit 2
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
bad=0

find . \( -name 'build*' -o -name .git \) -prune -o -type f -print |
    sed 's,^\./,,' | sort >"$work/files"
grep '\.md$' "$work/files" >"$work/documents"
sed 's,.*/,,' "$work/files" | sort -u >"$work/names"
grep '\.[chS]$\|\.sh$\|\.inc$' "$work/files" | xargs cat |
    grep -o '[A-Za-z_][A-Za-z0-9_]*' | sort -u >"$work/words"

# "file:line kind word" for all that has to exist.
xargs awk '
function emit(kind, word) { print FILENAME ":" FNR, kind, word }
{
    rest = $0
    while (match(rest, /\]\([^)]*\)/)) {
        target = substr(rest, RSTART + 2, RLENGTH - 3)
        sub(/#.*/, "", target)
        if (target != "" && target !~ /^[a-z]+:/)
            emit("link", target)
        rest = substr(rest, RSTART + RLENGTH)
    }
    rest = $0
    while (match(rest, /[A-Za-z0-9_.\/*<>$~-]+\.(c|h|S|sh|md|py|pml|awk|map|conf|mk|inc)([^A-Za-z0-9_<>*-]|$)/)) {
        word = substr(rest, RSTART, RLENGTH)
        sub(/[^a-zS]$/, "", word)
        if (word !~ /[<>$~]/ && word !~ /^[\/.*-]/)
            emit("file", word)
        rest = substr(rest, RSTART + RLENGTH)
    }
    rest = $0
    while (match(rest, /`[A-Za-z_][A-Za-z0-9_]*\(\)`/)) {
        emit("function", substr(rest, RSTART + 1, RLENGTH - 4))
        rest = substr(rest, RSTART + RLENGTH)
    }
}' <"$work/documents" >"$work/named"

exists() { # pattern, unquoted so that * is a glob
    for found in $1; do
        [ -e "$found" ] && return 0
    done
    return 1
}

named() { # pattern of a name without its folder
    while read -r name; do
        # shellcheck disable=SC2254
        case $name in $1) return 0 ;; esac
    done <"$work/names"
    return 1
}

while read -r place kind word; do
    folder=$(dirname "${place%:*}")
    case $kind in
    link) [ -e "$folder/$word" ] && continue ;;
    function) grep -qx "$word" "$work/words" && continue ;;
    file)
        case $word in
        */*) exists "$word" && continue
            exists "$folder/$word" && continue ;;
        *) named "$word" && continue ;;
        esac ;;
    esac
    echo "$place: there is no $kind $word"
    bad=1
done <"$work/named"
[ $bad -eq 0 ] && echo "$(wc -l <"$work/named") names in $(wc -l <"$work/documents") files"
exit $bad
