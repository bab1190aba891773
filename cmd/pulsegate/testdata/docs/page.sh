# What the examples of a page stand on. TestExamplesRun puts them below this.
set -eu

# All that is started is in the process group that the test made.
trap 'trap "" TERM; kill 0; wait' EXIT
trap 'exit 1' INT TERM

# awaited PATTERN: read what the process that was started last says, up to a line with it.
awaited() {
  while IFS= read -r line <&3; do
    printf '%s\n' "$line"
    case $line in *"$1"*) return 0 ;; esac
  done
  printf 'it ended and never said: %s\n' "$1"
  return 1
}

# started PATTERN COMMAND...: leave it running, once it has said that.
started() {
  wanted=$1
  shift
  mkfifo said
  "$@" > said 2>&1 &
  last=$!
  exec 3< said
  rm said
  awaited "$wanted"
}

# drained: let it say more without being held up.
drained() {
  cat <&3 &
  exec 3<&-
}

# ended PROCESS: interrupt it, and want status 0.
ended() {
  kill -INT "$1"
  wait "$1"
}

gate=
# serve COMMAND...: a gate in place of the one before, on free ports.
serve() {
  [ -z "$gate" ] || ended "$gate"
  export PULSEGATE_MQTT_LISTEN=127.0.0.1:0 PULSEGATE_NATS_LISTEN=127.0.0.1:0 PULSEGATE_HTTP_LISTEN=127.0.0.1:0
  started ' is ready: ' "$@"
  gate=$last
  drained
  MQTT=${line#* MQTT on } MQTT=${MQTT%%[, ]*}
  HTTP=${line#* HTTP on } HTTP=${HTTP%%;*}
  # The doctor looks where the gate listens.
  export PULSEGATE_MQTT_LISTEN="$MQTT" PULSEGATE_HTTP_LISTEN="$HTTP"
}

# reading: have some stored, of a device that no page knows.
reading() {
  [ -e sim.jsonl ] || pulsegate device add sim-1 --patient sim-p-1 --json > sim.jsonl
  device-sim --mqtt "$MQTT" --credentials sim.jsonl --rate 5 --duration 1s
}

# watch COMMAND...: want it to show a reading that comes then.
watch() {
  started 'watching; ' "$@"
  reading
  awaited sim-p-1
  drained
  ended "$last"
}

# broker FILE: a Mosquitto with that configuration.
broker() {
  started ' running' mosquitto -c "$1" -v
  drained
}
