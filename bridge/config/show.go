package config

import (
	"fmt"

	"github.com/goccy/go-yaml"
)

// Masked is the configuration with its secrets replaced: the master keys, the password, the token, and what stands before
// the @ of a NATS URL.
func (c Config) Masked() Config {
	c.Keys.Master = Secret(c.Keys.Master.String())
	c.NATS.Password = Secret(c.NATS.Password.String())
	c.NATS.Token = Secret(c.NATS.Token.String())
	c.NATS.URL = ServerURL(c.NATS.URL.String())
	return c
}

// YAML is the masked configuration in the form of the file that Load reads.
func (c Config) YAML() ([]byte, error) {
	text, err := yaml.Marshal(c.Masked())
	if err != nil {
		return nil, fmt.Errorf("write the configuration as YAML: %w", err)
	}
	return text, nil
}
