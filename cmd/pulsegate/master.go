package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/pulsegate/pulsegate/bridge"
	"github.com/pulsegate/pulsegate/bridge/registry"
)

func newMaster() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "master",
		Short: "List and add the master keys that devices' secrets are derived from",
		Long: `List and add master keys, in the file master.key of the service's data directory.
Devices' secrets are derived from the newest at the time; older ones must stay for as
long as anything depends on them. The service reads the file when it starts.`,
		Example: `  pulsegate master list
  pulsegate master add`,
	}
	dataFlags(cmd)
	jsonFlag(cmd)
	cmd.AddCommand(newMasterList(), newMasterAdd())
	return cmd
}

// masterView names a master key; the key itself is never shown.
type masterView struct {
	MasterID string `json:"master_id"`
	Newest   bool   `json:"newest,omitempty"`
}

func masterFile(cmd *cobra.Command) (string, error) {
	dir, err := dataDir(cmd)
	return filepath.Join(dir, bridge.MasterKeyFile), err
}

func newMasterList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the master keys' ids, the newest last",
		Example: "  pulsegate master list --data /var/lib/pulsegate",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			file, err := masterFile(cmd)
			if err != nil {
				return err
			}
			masters, err := registry.ReadMasters(file)
			if err != nil {
				return noMaster(file, err)
			}
			return printMasters(cmd, masters)
		},
	}
}

func noMaster(file string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no %s: the service makes it when it first starts; say where it is with --data", file)
	}
	return err
}

func printMasters(cmd *cobra.Command, masters registry.Masters) error {
	var views []masterView
	for _, id := range masters.IDs() {
		views = append(views, masterView{id, id == masters.Newest().ID})
	}
	if asJSON(cmd) {
		return printLines(cmd.OutOrStdout(), views)
	}
	p := &printer{w: cmd.OutOrStdout()}
	for _, v := range views {
		if v.Newest {
			p.line("%s (newest)", v.MasterID)
		} else {
			p.line("%s", v.MasterID)
		}
	}
	return p.err
}

func newMasterAdd() *cobra.Command {
	return &cobra.Command{
		Use:   "add [ID]",
		Short: "Add a new master key",
		Long: `Add a new random master key to master.key; without an ID it gets the next number. The
running services do not know it yet, and one that does not know it disables the devices
that need it. So:
  1. copy master.key to every replica's data directory, and back it up
  2. restart every replica; until the last one is back, add and rotate no device
  3. rotate the devices: their new keys come from the new master

"pulsegate device list --json" says which master each device and key depends on.`,
		Example: `  pulsegate master add
  pulsegate master add 2027 --data /var/lib/pulsegate`,
		Args: atMostOne("the new master key's id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id := ""
			if len(args) == 1 {
				id = args[0]
			}
			file, err := masterFile(cmd)
			if err != nil {
				return err
			}
			if _, err := registry.ReadMasters(file); err != nil {
				return noMaster(file, err)
			}
			masters, err := registry.AddMaster(file, id)
			if err != nil {
				return err
			}
			return show(cmd, masterView{masters.Newest().ID, true}, func(w io.Writer, v masterView) error {
				_, err := fmt.Fprintf(w, "master key %s is in %s; now copy the file to every replica and back it up, then restart every replica, and only then rotate the devices\n", v.MasterID, file)
				return err
			})
		},
	}
}
