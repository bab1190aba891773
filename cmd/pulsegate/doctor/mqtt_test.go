package doctor_test

import (
	"os"
	"testing"

	"github.com/pulsegate/pulsegate/bridge"
	"github.com/pulsegate/pulsegate/bridge/certs/certstest"
	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/cmd/pulsegate/doctor"
)

// TestEveryListener goes through all of them, behind a load balancer's protocol.
func TestEveryListener(t *testing.T) {
	a := certstest.New(t)
	c, pair := withTLS(t, a, 90)
	c.MQTT.WebSocket.Listen, c.MQTT.ProxyProtocol = "127.0.0.1:0", []string{"127.0.0.0/8"}
	plain := start(t, c)
	r := examine(t, plain)
	r.onlyFails(t)
	r.says(t, "mqtt", doctor.OK, "mqtt.listen "+plain.MQTT.Listen)
	r.says(t, "mqtt", doctor.OK, "mqtt.tls.listen "+plain.MQTT.TLS.Listen)
	r.says(t, "mqtt", doctor.OK, "mqtt.websocket.listen "+plain.MQTT.WebSocket.Listen)

	// Files that the gate has not taken up, since they do not belong together.
	must(t, os.Remove(pair.Key))
	other := a.Issue(t, "gate")
	text, err := os.ReadFile(other.Cert)
	must(t, err)
	must(t, os.WriteFile(pair.Cert, text, 0o600))
	r = examine(t, plain)
	r.says(t, "mqtt", doctor.Fail, "mqtt.tls.listen ", "shows another certificate than "+pair.Cert)
	r.says(t, "mqtt", doctor.OK, "mqtt.listen ")

	c, _ = withTLS(t, a, 90)
	c.MQTT.WebSocket.Listen, c.MQTT.WebSocket.Scheme = "127.0.0.1:0", config.SchemeSecure
	secure := start(t, c)
	r = examine(t, secure)
	r.onlyFails(t)
	r.says(t, "mqtt", doctor.OK, "mqtt.websocket.listen "+secure.MQTT.WebSocket.Listen)
}

func TestADeviceOfOnesOwn(t *testing.T) {
	a := certstest.New(t)
	c, _ := withTLS(t, a, 90)
	c.MQTT.TLS.Client, c.MQTT.TLS.ClientCA = config.ClientBoth, a.File
	b, err := bridge.Start(within(t), c, bridge.Options{})
	must(t, err)
	defer func() { must(t, b.Close(within(t))) }()
	c.MQTT.Listen, c.HTTP.Listen = b.MQTT(), b.HTTP()
	c.MQTT.TLS.Listen = b.Listeners()[1][len("mqtts://"):]
	r := examine(t, c)
	r.onlyFails(t)
	r.says(t, "mqtt", doctor.Skipped, "mqtt.tls.listen", "--device, --cert and --key")

	device, err := b.Enrol(within(t), "w-1", "p-1")
	must(t, err)
	own := a.Issue(t, "w-1")
	o := options(c)
	o.Device, o.Cert, o.Key = &device, own.Cert, own.Key
	before := b.Registry().Revision()
	r = doctor.Run(t.Context(), o)
	r.onlyFails(t)
	r.says(t, "mqtt", doctor.OK, "mqtt.tls.listen")
	if b.Registry().Revision() != before {
		t.Error("another device has been enrolled")
	}

	wrong := device
	wrong.Password = "another"
	o.Device = &wrong
	result(doctor.Run(t.Context(), o)).says(t, "mqtt", doctor.Fail, "CONNECT as w-1 is refused with 0x86")
	wrong = device
	wrong.Key = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	result(doctor.Run(t.Context(), o)).says(t, "mqtt", doctor.Fail, "is answered with 0x87")
}

// TestTheDeviceIsGoneWhateverHappens lets the round trip fail.
func TestTheDeviceIsGoneWhateverHappens(t *testing.T) {
	c := settings(t)
	b, err := bridge.Start(within(t), c, bridge.Options{})
	must(t, err)
	defer func() { must(t, b.Close(within(t))) }()
	c.MQTT.Listen, c.HTTP.Listen = vacant(t), b.HTTP()
	r := examine(t, c)
	r.onlyFails(t, "mqtt")
	r.says(t, "mqtt", doctor.Fail, "mqtt.listen "+c.MQTT.Listen, "look whether the gate listens there")
	if all, err := b.Registry().List(within(t), registry.KindDevice, "", 10); err != nil || len(all) > 0 || b.Registry().Revision() < 2 {
		t.Errorf("enrolled are %v (%v)", all, err)
	}
}
