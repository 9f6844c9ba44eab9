# shellcheck shell=bash
# What prepare.sh and the driver share: the config file, the program, and how to stop.
# Sourced with CONFIG set. Runs in bash 3.2 and later.

# The names of the Paddle port's modes have this form; only a value made of such items differs between modes.
readonly MODE_ITEM='^[a-z_]*_infer='

die() {
    printf 'error: %s\n' "$1" >&2
    exit "${2:-1}"
}

# config_value KEY: what follows the first colon in the config's first line KEY, without the blanks
# around it; `null` when the config has no such line or nothing there.
config_value() {
    awk -v key="$1" '
        { sub(/\r$/, ""); colon = index($0, ":") }
        colon && substr($0, 1, colon - 1) == key {
            value = substr($0, colon + 1)
            gsub(/^[ \t]+|[ \t]+$/, "", value)
            exit
        }
        END { print value == "" ? "null" : value }
    ' "$CONFIG"
}

# required_value KEY: the same, but the config must have it.
required_value() {
    local value
    value=$(config_value "$1")
    [ "$value" != null ] || die "$CONFIG: no line $1:VALUE"
    printf '%s\n' "$value"
}

# mode_value VALUE MODE: VALUE itself; if it has the form `mode=value|mode=value`, the value of MODE
# or, if there is none, `null`.
mode_value() {
    local item
    [[ $1 =~ $MODE_ITEM ]] || { printf '%s\n' "$1"; return; }
    while IFS= read -r item; do
        if [ "${item%%=*}" = "$2" ]; then
            printf '%s\n' "${item#*=}"
            return
        fi
    done < <(tr '|' '\n' <<<"$1")
    echo null
}

# config_flags FROM TO MODE: a line `--flag=value` for every line `--flag:value` of the config
# between the lines FROM and TO, each a key or the name of a section, unless there is no value for
# MODE. Keys of another form name settings of the Paddle port that this program does not have.
config_flags() {
    local key value
    while IFS=: read -r key value; do
        value=$(mode_value "${value#"${value%%[! ]*}"}" "$3")
        [ "${value:-null}" = null ] || printf '%s=%s\n' "$key" "$value"
    done < <(awk -v from="$1" -v to="$2" '
        { sub(/[ \t\r]*$/, ""); key = $0; sub(/:.*/, "", key) }
        key ~ /^=+[a-z_]+=+$/ { gsub(/=/, "", key) }
        key == to { exit }
        inside && key ~ /^--/ { print }
        key == from { inside = 1 }
    ' "$CONFIG")
}

# check_mode MODE: stops unless a value of the config names MODE, or MODE is whole_infer, which trains nothing.
check_mode() {
    local modes
    modes=$(grep -oE '[a-z_]+_infer=' "$CONFIG" | tr -d = | sort -u | tr '\n' ' ') || true
    case " ${modes}whole_infer " in
    *" $1 "*) ;;
    *) die "unknown mode '$1'; $CONFIG has: ${modes}whole_infer" 2 ;;
    esac
}

# The program: N2N when set, else the one that the config names.
program() {
    printf '%s\n' "${N2N:-$(required_value python)}"
}
