package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
	"golang.org/x/mod/semver"
)

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "pulsegate %s %s %s/%s%s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH, revision(buildSettings()))
			return err
		},
	}
}

func buildSettings() []debug.BuildSetting {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Settings
	}
	return nil
}

// revision says which commit a build from a clone is of, "" for any other.
func revision(settings []debug.BuildSetting) string {
	found := map[string]string{}
	for _, s := range settings {
		found[s.Key] = s.Value
	}
	switch commit := found["vcs.revision"]; {
	case commit == "":
		return ""
	case found["vcs.modified"] == "true":
		return ", revision " + commit + ", modified"
	default:
		return ", revision " + commit
	}
}

// version is the module's, without the v, or 0.0.0 for a build from a checkout
// that the go command did not give one.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && semver.IsValid(info.Main.Version) {
		return info.Main.Version[1:]
	}
	return "0.0.0"
}
