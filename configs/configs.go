// Package configs holds the configuration files that Pulsegate ships and, at the same time, runs on: what the embedded
// NATS server enforces is the very file that an operator includes in a real server's configuration.
package configs

import _ "embed"

//go:embed nats/accounts.conf
var natsAccounts string

// NATSAccounts returns configs/nats/accounts.conf: accounts, users and permissions in nats-server's configuration
// language. It refers to the variables GATE_PASSWORD, OPERATOR_PASSWORD, CONSUMER_PASSWORD and SECURITY_PASSWORD, which
// whoever loads it defines before.
func NATSAccounts() string { return natsAccounts }
