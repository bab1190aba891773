#!/usr/bin/python3
"""A complete wearable in Python: signs readings and sends them until the gate
acknowledges each. Needs paho-mqtt 1.6 (Debian: python3-paho-mqtt).

  client.py [--print] SPO2 HEART_RATE [SEQ]
  client.py [--print] < FILE

FILE has one reading a line: SPO2 HEART_RATE [SEQ]. --print writes the signed
payloads to standard output, one a line, and sends nothing.
Exit status: 0 all acknowledged (or printed), 1 not, 2 wrong usage.

From the environment, as `pulsegate device add --json` gives them:
  WEARABLE_DEVICE_ID   device_id, which is also the MQTT client id and username
  WEARABLE_PATIENT_ID  patient_id
  WEARABLE_KEY         key, 64 hexadecimal digits
  WEARABLE_PASSWORD    password (not needed with --print)
and, where the default does not fit:
  MQTT_HOST (127.0.0.1)  MQTT_PORT (1883)  MQTT_ATTEMPTS (60, a second apart)
  MQTT_TOPIC (wearables/<device_id>/vitals)
"""

import collections
import hashlib
import hmac
import json
import os
import sys
import time

import paho.mqtt.client as mqtt

USAGE = "usage: client.py [--print] SPO2 HEART_RATE [SEQ], or the same on lines of standard input"


def setting(name):
    value = os.environ.get(name, "")
    if not value:
        fail(f"set {name}", 2)
    return value


def fail(message, status):
    print(message, file=sys.stderr)
    sys.exit(status)


def sign(key, reading):
    """Returns the payload. Both dumps write the members in the same order and
    with the same separators, so all before the last comma is what was signed,
    but for its closing brace."""
    text = json.dumps(reading, allow_nan=False)
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    return json.dumps({**reading, "signature": signature}).encode()


def measure(words):
    if len(words) not in (2, 3):
        fail(USAGE, 2)
    try:
        key = bytes.fromhex(setting("WEARABLE_KEY"))
        if len(key) != 32:
            raise ValueError
        reading = {
            "device_id": setting("WEARABLE_DEVICE_ID"),
            "patient_id": setting("WEARABLE_PATIENT_ID"),
            "timestamp": time.time(),
            "spo2": json.loads(words[0]),
            "heart_rate": json.loads(words[1]),
        }
        if len(words) == 3:
            reading["seq"] = int(words[2])
        return sign(key, reading)
    except ValueError:
        fail("the values must be numbers, and WEARABLE_KEY 64 hexadecimal digits", 2)


class Wearable:
    """Keeps every payload until its PUBACK. paho is not left to reconnect by
    itself: a new connection begins with all that is still kept."""

    # How many may be under way at once; the others wait here for their turn.
    IN_FLIGHT = 16

    def __init__(self, payloads):
        self.kept = collections.deque(payloads)
        self.sent = {}
        self.device = setting("WEARABLE_DEVICE_ID")
        self.password = setting("WEARABLE_PASSWORD")
        self.host = os.environ.get("MQTT_HOST", "127.0.0.1")
        self.port = int(os.environ.get("MQTT_PORT", "1883"))
        self.topic = os.environ.get("MQTT_TOPIC", f"wearables/{self.device}/vitals")

    def connection(self):
        """Sends what is kept over one connection, until that is all
        acknowledged or the connection ends."""
        client = mqtt.Client(client_id=self.device, clean_session=True)
        client.username_pw_set(self.device, self.password)
        client.on_connect = self.connected
        client.on_publish = self.acknowledged
        client.connect(self.host, self.port, keepalive=30)
        while self.kept or self.sent:
            if client.loop(timeout=1) != mqtt.MQTT_ERR_SUCCESS:
                break
        else:
            client.disconnect()
        # In the order of sending, so that readings arrive in their order.
        self.kept.extendleft(reversed(list(self.sent.values())))
        self.sent.clear()

    def connected(self, client, userdata, flags, code):
        if code in (4, 5):
            fail("the gate refuses this device's name and password", 1)
        if code == 0:
            self.fill(client)

    def fill(self, client):
        while self.kept and len(self.sent) < self.IN_FLIGHT:
            payload = self.kept.popleft()
            self.sent[client.publish(self.topic, payload, qos=1).mid] = payload

    def acknowledged(self, client, userdata, mid):
        self.sent.pop(mid, None)
        self.fill(client)

    def run(self, attempts):
        for attempt in range(attempts):
            if attempt > 0:
                time.sleep(1)
            try:
                self.connection()
            except OSError as problem:
                print(f"no connection: {problem}", file=sys.stderr)
            if not self.kept:
                return
        fail(f"{len(self.kept)} not acknowledged: giving up", 1)


def main():
    words = sys.argv[1:]
    only_print = words[:1] == ["--print"]
    if only_print:
        words = words[1:]
    lines = [words] if words else [line.split() for line in sys.stdin if line.strip()]
    payloads = [measure(line) for line in lines]
    if not payloads:
        fail(USAGE, 2)
    if only_print:
        for payload in payloads:
            print(payload.decode())
        return
    Wearable(payloads).run(int(os.environ.get("MQTT_ATTEMPTS", "60")))


if __name__ == "__main__":
    main()
