package config

import "github.com/spf13/pflag"

const flagConfig = "config"

// flagKeys lists the flags that stand for settings, and the settings' dotted names.
func flagKeys() [][2]string {
	return [][2]string{
		{"data", "data"},
		{"mqtt-listen", "mqtt.listen"},
		{"mqtt-anonymous", "mqtt.anonymous"},
		{"mqtt-source", "source.url"},
		{"nats-listen", "nats.listen"},
		{"http-listen", "http.listen"},
		{"http-pprof", "http.pprof"},
		{"nats", "nats.url"},
		{"log-level", "log.level"},
	}
}

// RegisterFlags adds the flags that Load reads: --config, --data, --mqtt-listen, --mqtt-anonymous, --mqtt-source,
// --nats-listen, --http-listen, --http-pprof, --nats and --log-level.
func RegisterFlags(fs *pflag.FlagSet) {
	standard := Default()
	fs.String(flagConfig, "", "YAML `file` to read (or $"+variableConfig+")")
	fs.String("data", "", "data `directory` (default $XDG_STATE_HOME/pulsegate or ~/.local/state/pulsegate)")
	fs.String("mqtt-listen", standard.MQTT.Listen, "`address` of the MQTT broker for devices, host:port")
	fs.String("mqtt-anonymous", standard.MQTT.Anonymous, "let devices in by their client id, without a password: for laboratories; =force off loopback too")
	fs.Lookup("mqtt-anonymous").NoOptDefVal = AnonymousLoopback
	fs.String("mqtt-source", "", "`URL` of another MQTT broker to take readings from, mqtt:// or mqtts://")
	fs.String("nats-listen", standard.NATS.Listen, "`address` of the embedded NATS server, host:port")
	fs.String("http-listen", standard.HTTP.Listen, "`address` for health and metrics, host:port")
	fs.Bool("http-pprof", standard.HTTP.Pprof, "serve profiles of the program under /debug/pprof/; on a loopback address only")
	fs.String("nats", "", "`URL` of a NATS server to use instead of the embedded one")
	fs.String("log-level", standard.Log.Level, "least severe `level` logged: trace, debug, info, warn or error")
}

// changed is a flag's value where the user gave it.
func changed(fs *pflag.FlagSet, name string) (string, bool) {
	if fs == nil {
		return "", false
	}
	flag := fs.Lookup(name)
	if flag == nil || !flag.Changed {
		return "", false
	}
	return flag.Value.String(), true
}

func (l *loader) flags(fs *pflag.FlagSet) error {
	for _, pair := range flagKeys() {
		text, given := changed(fs, pair[0])
		to, known := findLeaf(pair[1])
		if !given || !known {
			continue
		}
		if err := l.set(to, text, "flag --"+pair[0]); err != nil {
			return err
		}
	}
	return nil
}
