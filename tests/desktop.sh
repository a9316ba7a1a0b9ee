#!/usr/bin/env bash
# The desktop on a screen that nobody sees: how fast it draws, and pictures of it.
#
#   tests/desktop.sh bench [SECS]      frames per second while it is live, and the memory it takes
#   tests/desktop.sh screenshots [DIR] pictures for the README (default docs/screenshots)
#   tests/desktop.sh files [DIR]       those of the pages of files and of the model alone
#   tests/desktop.sh adapt [DIR]       those of the page that adapts: LIBRARY names a folder of music, ROOM a recording
#   tests/desktop.sh refusal [DIR]     of these the refused room alone
#
# A clip plays into a sound server's null sink and is listened to from the sink's monitor, as a person would hear it. It
# all runs under Xvfb, with a sound server and a home folder of its own. EARMARK names the program, NOISE a file of
# noise; without it noise is made.
set -euo pipefail
cd "$(dirname "$0")/.."

EARMARK=$(realpath "${EARMARK:-target/release/earmark}")
readonly SIZE=1280x800
readonly MUSIC=$PWD/assets/demo
readonly PEERS=$PWD/tests/peers
RIG=$(mktemp -d)
readonly RIG
PIDS=()

fail() { printf 'desktop: %s\n' "$*" >&2; exit 1; }

end() {
    # Each is the leader of a group of its own.
    for pid in "${PIDS[@]}"; do kill -TERM -- "-$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$RIG"
}
trap end EXIT

# in_background COMMAND.. : in a group of its own, so that it ends with all of its children. Sets LAST.
in_background() {
    setsid "$@" >"$RIG/log" 2>&1 &
    LAST=$!
    PIDS+=("$LAST")
}

end_one() {
    kill -TERM -- "-$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

start_screen() {
    local free
    for free in $(seq 90 120); do [ -e "/tmp/.X11-unix/X$free" ] || break; done
    in_background Xvfb ":$free" -screen 0 "${SIZE}x24" -nolisten tcp -noreset
    export DISPLAY=":$free" HOME="$RIG/home" XDG_CONFIG_HOME="$RIG/home/.config" XDG_RUNTIME_DIR="$RIG/run"
    unset WAYLAND_DISPLAY
    mkdir -p "$XDG_CONFIG_HOME/earmark" "$RIG/run/pulse"
    chmod 700 "$RIG/run" "$RIG/run/pulse"
    for _ in $(seq 50); do xdotool getdisplaygeometry >/dev/null 2>&1 && return; sleep 0.2; done
    fail "Xvfb does not start"
}

start_sound() {
    export PULSE_RUNTIME_PATH="$RIG/run/pulse"
    in_background pulseaudio -n --daemonize=no --exit-idle-time=-1 --use-pid-file=no \
        "--load=module-native-protocol-unix socket=$RIG/run/pulse/native auth-anonymous=1"
    export PULSE_SERVER="unix:$RIG/run/pulse/native"
    for _ in $(seq 100); do pactl info >/dev/null 2>&1 && break; sleep 0.2; done
    pactl load-module module-null-sink sink_name=stage rate=48000 sink_properties=device.description=Stage >/dev/null \
        || fail "no sound server starts"
}

# settings THEME SCALE: as they were left, with the sink's monitor as the source.
settings() {
    printf '{"version":1,"theme":"%s","scale":%s,"is_welcomed":%s}\n' "$1" "$2" "${3:-true}" \
        >"$XDG_CONFIG_HOME/earmark/desktop.json"
    printf '{"version":1,"source":{"device":{"id":"stage.monitor","name":"Monitor of Stage"}}}\n' \
        >"$XDG_CONFIG_HOME/earmark/live.json"
}

# play FILE [VOLUME]: again and again.
play() {
    # shellcheck disable=SC2016 # expanded by the inner shell
    in_background bash -c 'while :; do paplay --device=stage --volume="$2" "$1"; done' play "$1" "${2:-65536}"
}

noise() {
    [ -z "${NOISE:-}" ] || { printf '%s' "$NOISE"; return; }
    python3 - "$RIG/noise.wav" <<'PY'
import random, struct, sys, wave
random.seed(1)
with wave.open(sys.argv[1], "wb") as out:
    out.setnchannels(1), out.setsampwidth(2), out.setframerate(22_050)
    samples = (int(random.gauss(0, 2_500)) for _ in range(22_050 * 10))
    out.writeframes(b"".join(struct.pack("<h", max(-32_768, min(32_767, s))) for s in samples))
PY
    printf '%s' "$RIG/noise.wav"
}

# open_window ARG.. : the desktop, as large as the screen. Sets WINDOW.
open_window() {
    in_background "$EARMARK" desktop "$@"
    WINDOW=$LAST
    local id
    for _ in $(seq 100); do
        id=$(xdotool search --name '^Earmark$' 2>/dev/null | head -n 1) && [ -n "$id" ] && break
        kill -0 "$WINDOW" 2>/dev/null || { cat "$RIG/log" >&2; fail "the desktop ended"; }
        sleep 0.2
    done
    xdotool windowmove "$id" 0 0 windowsize "$id" "${SIZE%x*}" "${SIZE#*x}"
}

# picture NAME: what is on the screen, with as few colours as it needs.
picture() {
    import -window root "$RIG/picture.png"
    convert "$RIG/picture.png" -strip -dither None -colors 250 -define png:compression-level=9 "PNG8:$OUT/$1.png"
    printf '%s %s bytes\n' "$OUT/$1.png" "$(stat -c %s "$OUT/$1.png")"
}

screenshots() {
    OUT=${1:-docs/screenshots}
    mkdir -p "$OUT"
    settings dark 1 false
    open_window
    sleep 3
    picture first-start
    end_one "$WINDOW"

    settings dark 1
    play "$MUSIC/rock.ogg"
    local music=$LAST
    open_window --listen
    sleep 50
    picture live-dark
    # The sink is taken away, and brought back.
    pactl unload-module module-null-sink
    sleep 6
    picture lost
    pactl load-module module-null-sink sink_name=stage rate=48000 sink_properties=device.description=Stage >/dev/null
    end_one "$WINDOW"
    end_one "$music"

    settings light 1
    play "$MUSIC/choir.ogg"
    music=$LAST
    open_window --listen
    sleep 30
    play "$(noise)" 30000
    local noise=$LAST
    sleep 15
    picture live-light-noise
    end_one "$music"
    sleep 20
    picture no-music
    end_one "$WINDOW"
    end_one "$noise"

    settings dark 1.5
    play "$MUSIC/sitar.ogg"
    music=$LAST
    open_window --listen
    sleep 25
    picture large-text
    end_one "$WINDOW"
    settings light 1
    open_window --listen --raw
    sleep 20
    picture raw-scores
    end_one "$WINDOW"
    end_one "$music"
    open_window --page settings
    sleep 3
    picture settings
    end_one "$WINDOW"
    files
}

# files [DIR]: the pages of files and of the model. LIBRARY names a folder of music to show.
files() {
    OUT=${1:-${OUT:-docs/screenshots}}
    mkdir -p "$OUT"
    for theme in dark light; do
        settings "$theme" 1
        open_window "${LIBRARY:-$MUSIC}"
        sleep "${TAGGED_AFTER:-12}"
        # The third file is opened and played.
        xdotool mousemove 400 214
        sleep 1
        xdotool click 1
        sleep 3
        xdotool mousemove 200 482
        sleep 1
        xdotool click 1
        sleep 8
        picture "files-$theme"
        end_one "$WINDOW"
    done
    open_window --page model
    sleep 8
    picture model
    end_one "$WINDOW"
}

# ticks PID: processor time so far.
ticks() { sed 's/.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }'; }

# click X Y
click() { xdotool mousemove "$1" "$2"; sleep 1; xdotool click 1; sleep 1; }

# adapt [DIR]: the three steps of the page that adapts, an accepted result, and a room that is refused. Takes minutes.
adapt() {
    OUT=${1:-docs/screenshots}
    OUT=$(realpath "$OUT")
    [ -d "${LIBRARY:-}" ] && [ -f "${ROOM:-}" ] || fail "set LIBRARY to a folder of music and ROOM to a recording of a room"
    local recordings=$HOME/.local/share/earmark/recordings
    mkdir -p "$OUT" "$recordings" "$HOME/Music"
    cp "$LIBRARY"/* "$HOME/Music"
    # As in a home folder: the page shows the folder as it was named.
    cd "$HOME"
    cp "$ROOM" "$recordings/room-20261129-120000.${ROOM##*.}"
    settings dark 1
    open_window --page adapt --music Music
    sleep 3
    picture adapt-1-sound
    click 404 334 # tags too
    click 224 374 # start
    # However busy the machine is: most of the listening is done after so much time of a processor.
    for _ in $(seq 600); do
        [ "$(ticks "$WINDOW")" -lt "$((${LEARNING_AFTER:-60} * $(getconf CLK_TCK)))" ] || break
        sleep 1
    done
    picture adapt-2-learn
    for _ in $(seq 1200); do
        [ -z "$(find "$HOME/.local/share/earmark/profiles" -name '*.safetensors' 2>/dev/null)" ] || break
        sleep 1
    done
    sleep 2
    xdotool mousemove 640 500
    xdotool click --repeat 60 --delay 30 5 # down to the end
    sleep 2
    picture adapt-3-accepted
    end_one "$WINDOW"

    refusal "$OUT"
}

# refusal [DIR]: a room of pure tones, refused.
refusal() {
    OUT=$(realpath "${1:-docs/screenshots}")
    local data=$HOME/.local/share/earmark
    mkdir -p "$OUT" "$HOME/Music"
    [ -n "${LIBRARY:-}" ] || fail "set LIBRARY to a folder of music"
    cp "$LIBRARY"/* "$HOME/Music"
    cd "$HOME"
    rm -rf "$data"
    PYTHONPATH=$PEERS python3 -c 'import sys, adapt; adapt.write_tones(sys.argv[1], 120)' "$RIG/tones.wav"
    "$EARMARK" adapt record --quiet --out "$data/recordings" --file "$RIG/tones.wav" --speed 20 --duration 110
    settings light 1
    open_window --page adapt --music Music
    sleep 3
    click 224 374
    sleep "${LOOKED_AFTER:-20}"
    picture adapt-refused-tones
    end_one "$WINDOW"
}

bench() {
    local secs=${1:-20}
    [ "$secs" -ge 8 ] || fail "bench needs at least 8 seconds"
    settings dark 1
    play "$MUSIC/rock.ogg"
    in_background bash -c "exec \"\$0\" desktop --listen --frames $secs >\"$RIG/result\" 2>\"$RIG/errors\"" "$EARMARK"
    local app=$LAST
    for _ in $(seq 50); do
        id=$(xdotool search --name '^Earmark$' 2>/dev/null | head -n 1) && [ -n "$id" ] && break
        sleep 0.2
    done
    xdotool windowmove "$id" 0 0 windowsize "$id" "${SIZE%x*}" "${SIZE#*x}"
    # Whoever is busy beside it takes frames, not processor time by frame.
    local before after
    sleep 6
    before=$(ticks "$app")
    sleep "$(awk "BEGIN { print $secs - 4 }")"
    after=$(ticks "$app")
    # Of the resident memory, what the software renderer's own libraries take.
    local memory
    memory=$(awk '/^[0-9a-f]+-[0-9a-f]+ / { name = $6 } /^Rss:/ { all += $2; if (name ~ /libLLVM|vulkan|gallium|mesa|libGL|dri/) its += $2 }
        END { printf "rss_mb=%.0f renderer_libs_mb=%.0f", all / 1024, its / 1024 }' "/proc/$app/smaps")
    wait "$app" || { cat "$RIG/errors" >&2; fail "the desktop failed"; }
    local result share
    result=$(grep RESULT "$RIG/result")
    share=$(awk "BEGIN { printf \"%.3f\", ($after - $before) / $(getconf CLK_TCK) / ($secs - 4) }")
    printf '%s %s cpu_share=%s cpu_ms_per_frame=%s\n' "$result" "$memory" "$share" \
        "$(awk -v line="$result" "BEGIN { sub(/.*fps=/, \"\", line); printf \"%.1f\", 1000 * $share / line }")"
}

case "${1:-}" in
    bench | screenshots | files | adapt | refusal) ;;
    *) fail "say bench, screenshots, files, adapt or refusal" ;;
esac
for program in Xvfb xdotool pulseaudio pactl paplay import convert; do
    command -v "$program" >/dev/null || fail "$program is not installed; ./dev screenshots installs it"
done
start_screen
start_sound
"$@"
