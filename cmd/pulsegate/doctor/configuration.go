package doctor

import (
	"context"

	"github.com/pulsegate/pulsegate/bridge/config"
)

// configuration tells what loading it has said, and what it allows that is meant
// for laboratories.
func (e *examination) configuration(context.Context) []finding {
	if e.Refused != nil {
		return []finding{wrong("%v", e.Refused)}
	}
	if e.Config.MQTT.Anonymous != config.AnonymousRefuse {
		return []finding{doubtful("mqtt.anonymous is %s, so that devices need no password: set it to refuse, unless this is a laboratory", e.Config.MQTT.Anonymous)}
	}
	return []finding{well("it is in order; %s", e.store())}
}

// embedded says whether the gate runs its own NATS.
func (e *examination) embedded() bool {
	return e.Config.NATS.URL == "" && e.Config.NATS.URLFile == ""
}

func (e *examination) store() string {
	if e.embedded() {
		return "NATS is embedded"
	}
	return "NATS is a server of its own"
}
