package main

import (
	"github.com/spf13/cobra"

	"github.com/pulsegate/pulsegate/bridge/config"
)

func newConfig() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the effective configuration as YAML, secrets masked",
		Long: `Print the configuration that "pulsegate serve" would run with, from the file, the
environment and the flags. The output is itself a configuration file, but for the
secrets, which are masked.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(cmd)
			if err != nil {
				return err
			}
			text, err := c.YAML()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	config.RegisterFlags(cmd.Flags())
	return cmd
}
