# Finds the Python that an image runs, among the words of its ENTRYPOINT and CMD, and has it run a
# program: $1 is the program, the rest are the words, likeliest first. POSIX sh; busybox and dash.
umask 022
program=$1
shift
python=
old=

# Sets `python` if $1 is one that the program can run in.
try() {
    [ -x "$1" ] || return 1
    version=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || return 1
    case $version in
        2.* | 3.[0-7]) old="$1 is Python $version"; return 1 ;;
        3.*) python=$1 ;;
        *) return 1 ;;
    esac
}

# Looks at one word: an interpreter, or a script that names one in its first line.
look() {
    path=$(command -v "$1" 2>/dev/null) || return 1
    case $path in
        */*) ;;
        *) return 1 ;;
    esac
    case ${path##*/} in
        python* | pypy*) try "$path"; return ;;
    esac
    [ -f "$path" ] && [ -r "$path" ] || return 1
    line=
    IFS= read -r line < "$path" || :
    case $line in
        '#!'*python* | '#!'*pypy*)
            for part in ${line#??}; do
                case ${part##*/} in
                    python* | pypy*) try "$(command -v "$part")" && return ;;
                esac
            done
            ;;
    esac
    # Where the path of the interpreter is too long for a first line, pip and uv write another one.
    [ -e "${path%/*}/../pyvenv.cfg" ] && try "${path%/*}/python"
}

for word do
    case $word in
        *\$*) eval "word=\"$word\"" ;;
    esac
    look "$word" && break
done
if [ -z "$python" ]; then
    # Put together only now: a builder that shows this text must not seem to report a reason.
    printf '%s: %s\n' hdocker "no Python 3.8 or newer in the image, of: $*${old:+ ($old)}" >&2
    exit 1
fi
exec "$python" -c "$program"
