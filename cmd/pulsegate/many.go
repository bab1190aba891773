package main

import (
	"context"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

// atOnce is how many questions about devices the service is asked at a time:
// each mostly waits for the store and the other replicas.
const atOnce = 16

// forAll calls one for each of n things, several at once, and shows how far it
// is on a terminal. It stops at the first error and returns it.
func forAll(cmd *cobra.Command, what string, n int, one func(ctx context.Context, i int) error) error {
	bar := progressbar.NewOptions(n,
		progressbar.OptionSetWriter(cmd.ErrOrStderr()), progressbar.OptionSetVisibility(isTerminal(cmd.ErrOrStderr())),
		progressbar.OptionSetDescription(what), progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(true),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	defer func() { _ = bar.Exit() }()
	group, ctx := errgroup.WithContext(cmd.Context())
	group.SetLimit(atOnce)
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			if err := one(ctx, i); err != nil {
				return err
			}
			return bar.Add(1)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return cmd.Context().Err()
}
