package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/bridge/verify"
	"github.com/pulsegate/pulsegate/cmd/pulsegate/diagnose"
)

func newVerify() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify --topic T [--at TIME] [--device ID | --key HEX | --key-file FILE | --credentials FILE] [FILE]",
		Short: "Say what the gate makes of a payload, and why",
		Long: `Read a payload, from FILE or from standard input, byte for byte, and judge it as the
gate would if it came in on the topic: checks 1 to 7, all but whether the reading is
stored already. The exit status is 0 only if it is accepted; one that is late would be
stored, but not as current.

For a bad signature the exact bytes are printed that the signature must cover, and
the signature that they should have; the usual slips are tried, and those that
explain the signature are named, with what to do.

The device's patient and keys come from the running service, unless given; a key that
has ended after a rotation is named if it made the signature:
  --device ID         the topic is this device's own, and its key is tried too
  --key, --key-file   the key of the topic's device; needs no service. The patient is
                      compared only with --patient
  --credentials FILE  lines as "pulsegate device add --json" prints them; needs no
                      service. The topic may be left out if there is one line

The topics' pattern and the limits of age are those of the configuration, as in
"pulsegate config".`,
		Example: `  pulsegate verify --topic wearables/w-0001/vitals payload.json
  pulsegate verify --topic wearables/w-0001/vitals --key-file key.hex --at 2025-11-21T23:00:00Z payload.json`,
		Args: atMostOne("a file"),
		RunE: runVerify,
	}
	connectFlags(cmd)
	keyFlags(cmd, "device whose topic and key the running service is asked for")
	cmd.Flags().String("credentials", "", "`file` with lines of \"pulsegate device add --json\"")
	cmd.Flags().String("topic", "", "MQTT `topic` that the payload came in on")
	cmd.Flags().String("at", "", "`time` to judge at, RFC 3339 or seconds since 1970 (default now)")
	cmd.Flags().String("patient", "", "`ID` of the patient that the device is assigned to, with --key or --key-file")
	cmd.Flags().Bool("json", false, "print one JSON object")
	return cmd
}

func runVerify(cmd *cobra.Command, args []string) error {
	at, err := judgedAt(cmd)
	if err != nil {
		return err
	}
	c, err := serviceConfig(cmd)
	if err != nil {
		return err
	}
	payload, err := readInput(cmd, args)
	if err != nil {
		return err
	}
	known, err := openDevices(cmd, payload, at)
	if err != nil {
		return err
	}
	defer known.close()
	v, err := judge(c, known, payload, at)
	if err != nil {
		return err
	}
	j := newJudgement(v, known, payload)
	if err := show(cmd, j, printJudgement); err != nil {
		return err
	}
	if v.Outcome != verify.Accepted {
		return fmt.Errorf("not accepted: %s", v.Outcome)
	}
	return nil
}

// serviceConfig is the configuration without the flags that mean something
// else to this verb.
func serviceConfig(cmd *cobra.Command) (config.Config, error) {
	var flags pflag.FlagSet
	flags.AddFlag(cmd.Flags().Lookup("config"))
	return config.Load(config.Sources{Environ: os.Environ(), Allow: verbVariables(), Flags: &flags})
}

func judge(c config.Config, known *devices, payload []byte, at time.Time) (verify.Verdict, error) {
	verifier, err := verify.New(verify.Config{
		Topic: c.MQTT.Topic, MaxAge: time.Duration(c.Freshness.MaxAge), MaxFuture: time.Duration(c.Freshness.MaxFuture),
		Late: verify.LatePolicy(c.Freshness.Late), MaxLate: time.Duration(c.Freshness.MaxLate),
	}, known, verify.Trusted(func() time.Time { return at }))
	if err != nil {
		return verify.Verdict{}, fmt.Errorf("configuration: %w", err)
	}
	v := verifier.Session("").Check(known.topic, payload)
	return v, known.err
}

// judgedAt reads --at in the two forms that a timestamp has.
func judgedAt(cmd *cobra.Command) (time.Time, error) {
	text, _ := cmd.Flags().GetString("at")
	if text == "" {
		return time.Now(), nil
	}
	for _, quoted := range []string{text, fmt.Sprintf("%q", text)} {
		probe := fmt.Sprintf(`{"device_id":"d","patient_id":"p","timestamp":%s,"spo2":0,"heart_rate":0,"signature":""}`, quoted)
		if r, err := reading.Parse([]byte(probe)); err == nil {
			return r.Timestamp, nil
		}
	}
	return time.Time{}, fmt.Errorf("--at %q is neither RFC 3339, such as 2025-11-21T23:00:00.123Z, nor seconds since 1970", text)
}

// slips asks for a diagnosis where one can help.
func slips(v verify.Verdict, known *devices, payload []byte) diagnose.Report {
	switch v.Outcome {
	case verify.Accepted, verify.UnknownDevice, verify.RevokedDevice:
		return diagnose.Report{}
	}
	oversize := len(payload) > 2*reading.MaxPayload // trying variants would take long
	if oversize || v.AboutTopic || v.Authentic && v.Outcome != verify.InvalidReading {
		return diagnose.Report{}
	}
	return diagnose.Payload(payload, known.candidates(), v.Now)
}
