#!/bin/sh
# A complete wearable in the shell: signs one reading and sends it until the
# gate acknowledges it. Needs openssl and mosquitto_pub.
#
#   client.sh [--print] SPO2 HEART_RATE [SEQ]
#
# --print writes the signed payload to standard output and sends nothing.
# Exit status: 0 acknowledged (or printed), 1 not acknowledged, 2 wrong usage.
#
# From the environment, as `pulsegate device add --json` gives them:
#   WEARABLE_DEVICE_ID   device_id, which is also the MQTT client id and username
#   WEARABLE_PATIENT_ID  patient_id
#   WEARABLE_KEY         key, 64 hexadecimal digits
#   WEARABLE_PASSWORD    password (not needed with --print)
# and, where the default does not fit:
#   MQTT_HOST (127.0.0.1)  MQTT_PORT (1883)  MQTT_ATTEMPTS (60, a second apart)
#   MQTT_TOPIC (wearables/<device_id>/vitals)
#
# Key and password are arguments of openssl and mosquitto_pub, so other users of
# the same machine can see them: run this where there are none.
set -eu

fail() {
	printf '%s\n' "$1" >&2
	exit "$2"
}

print=no
if [ "${1-}" = --print ]; then
	print=yes
	shift
fi
[ $# -ge 2 ] && [ $# -le 3 ] || fail "usage: client.sh [--print] SPO2 HEART_RATE [SEQ]" 2
device=${WEARABLE_DEVICE_ID:-}
patient=${WEARABLE_PATIENT_ID:-}
key=${WEARABLE_KEY:-}
[ -n "$device" ] && [ -n "$patient" ] && [ -n "$key" ] ||
	fail "set WEARABLE_DEVICE_ID, WEARABLE_PATIENT_ID and WEARABLE_KEY" 2

# Checked here, because openssl would print a wrong key in its error.
case $key in
*[!0-9a-fA-F]*) fail "WEARABLE_KEY must be 64 hexadecimal digits" 2 ;;
esac
[ ${#key} -eq 64 ] || fail "WEARABLE_KEY must be 64 hexadecimal digits" 2

# POSIX date knows whole seconds only. Without a SEQ, two readings of equal
# values in one second would be the same bytes, hence one reading.
now=$(date -u +%Y-%m-%dT%H:%M:%SZ)
seq=
[ $# -eq 3 ] && seq="\"seq\":$3,"
text=$(printf '{"device_id":"%s","patient_id":"%s","timestamp":"%s",%s"spo2":%s,"heart_rate":%s}' \
	"$device" "$patient" "$now" "$seq" "$1" "$2")

# printf and not echo: a newline would be signed too. With -r the digits come
# first on the line, whatever openssl's version puts after them.
signature=$(printf '%s' "$text" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -r | cut -d ' ' -f 1)
[ ${#signature} -eq 64 ] || fail "openssl made no signature" 1
payload="${text%\}},\"signature\":\"$signature\"}"

if [ "$print" = yes ]; then
	printf '%s' "$payload"
	exit 0
fi
[ -n "${WEARABLE_PASSWORD:-}" ] || fail "set WEARABLE_PASSWORD" 2

# The payload is made once and sent unchanged each time: the gate knows it by
# its signature, so a second copy does no harm. mosquitto_pub ends with 0 once
# the PUBACK is there.
left=${MQTT_ATTEMPTS:-60}
until mosquitto_pub -h "${MQTT_HOST:-127.0.0.1}" -p "${MQTT_PORT:-1883}" \
	-i "$device" -u "$device" -P "$WEARABLE_PASSWORD" \
	-t "${MQTT_TOPIC:-wearables/$device/vitals}" -q 1 -m "$payload"; do
	left=$((left - 1))
	[ "$left" -gt 0 ] || fail "not acknowledged: giving up" 1
	sleep 1
done
