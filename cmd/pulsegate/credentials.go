package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pulsegate/pulsegate/bridge/engine"
)

func newCredentials() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "credentials",
		Short: "Make the credentials of a NATS server of your own",
	}
	cmd.AddCommand(newCredentialsInit())
	return cmd
}

func newCredentialsInit() *cobra.Command {
	var dir, servers, routes string
	cmd := &cobra.Command{
		Use:   "init --dir DIR --nats URL [--routes URL]",
		Short: "Make passwords that a NATS server and Pulsegate share",
		Long: `Make what a NATS server of your own and those who connect to it must agree on:

  DIR/accounts.conf   accounts, users and passwords, for the server's configuration to
                      include; made anew each time, so do not edit it
  DIR/gate.url        for the service: PULSEGATE_NATS_URL_FILE=DIR/gate.url
  DIR/operator.url    for "pulsegate device"
  DIR/consumer.url    for those who read verified readings
  DIR/security.url    for those who read rejections and the audit
  DIR/routes.conf     with --routes: how the servers of a cluster log in to each other, for
                      the cluster block of each one's configuration to include

All have mode 0600. Passwords that are there are kept, so it may run before every
start. Give each user only his own file; a verb takes it from a directory (--data) or
its content from PULSEGATE_OPERATOR_URL and the like. To change a password, delete its
file, run this again, and reload the server.`,
		Example: `  pulsegate credentials init --dir /etc/pulsegate/nats --nats nats://nats.example.org:4222
  pulsegate credentials init --dir secrets --nats tls://nats-1:4222,tls://nats-2:4222 --routes nats://nats-1:6222,nats://nats-2:6222`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := engine.MakeCredentials(dir, servers); err != nil {
				return err
			}
			if routes != "" {
				if err := engine.MakeRoutes(dir, routes); err != nil {
					return err
				}
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "credentials are in %s; let the NATS server's configuration include %s\n", dir, engine.AccountsFile(dir))
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "`directory` for the files (required)")
	cmd.Flags().StringVar(&servers, "nats", "", "`URL` at which clients reach NATS, several separated by commas (required)")
	cmd.Flags().StringVar(&routes, "routes", "", "`URL` at which the servers of a cluster reach each other, all of them, separated by commas")
	_ = cmd.MarkFlagRequired("dir")
	_ = cmd.MarkFlagRequired("nats")
	return cmd
}
