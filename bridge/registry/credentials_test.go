package registry_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/pulsegate/pulsegate/bridge/registry"
)

func TestReadCredentials(t *testing.T) {
	one := registry.Credentials{
		DeviceID: "w-1", PatientID: "p-1", Topic: "wearables/w-1/vitals", Username: "w-1",
		Password: "password-1", Key: strings.Repeat("0f", 32),
	}
	two := registry.Credentials{DeviceID: "w-2", PatientID: "p-2", Topic: "wearables/w-2/vitals", Username: "w-2", Password: "password-2"}
	var file bytes.Buffer
	for _, c := range []registry.Credentials{one, two} {
		must(t, json.NewEncoder(&file).Encode(c))
		file.WriteString("\r\n  \n")
	}
	got, err := registry.ReadCredentials(strings.NewReader(strings.TrimSpace(file.String())))
	if err != nil || len(got) != 2 || got[0] != one || got[1] != two {
		t.Errorf("read as %+v (%v)", got, err)
	}
}

func TestReadCredentialsRefuses(t *testing.T) {
	const good = `{"device_id":"w-1","patient_id":"p-1","topic":"t","username":"w-1","password":"hidden-pass","key":""}` + "\n"
	for name, c := range map[string]struct{ text, says string }{
		"nothing":      {"", "no credentials"},
		"empty lines":  {"\n \n", "no credentials"},
		"no JSON":      {good + "hidden-pass", "line 2: not a JSON object"},
		"an array":     {"[" + good, "line 1: not a JSON object"},
		"null":         {good + "\nnull", "line 3: device_id"},
		"no topic":     {strings.Replace(good, `"topic":"t",`, "", 1), "line 1: device_id, patient_id, topic and username"},
		"a wrong key":  {strings.Replace(good, `"key":""`, `"key":"hidden-pass"`, 1), "line 1: key must be 64 hexadecimal digits"},
		"a short key":  {strings.Replace(good, `"key":""`, `"key":"abcd"`, 1), "line 1: key must be 64 hexadecimal digits"},
		"endless line": {good + strings.Repeat("x", 1<<17), "line 2: reading credentials"},
	} {
		_, err := registry.ReadCredentials(strings.NewReader(c.text))
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "hidden-pass") {
			t.Errorf("%s: %v, want an error that says %q and no secret", name, err, c.says)
		}
	}
}
