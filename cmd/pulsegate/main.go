// Command pulsegate is a gate between medical wearables and those who act on
// their readings: signed JSON over MQTT in, only authentic readings out on NATS.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// After the first signal the default is back, so that a second one ends at once.
	context.AfterFunc(ctx, stop)
	if err := newRoot().ExecuteContext(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "pulsegate: %v\n", err)
		return exitCode(err)
	}
	return 0
}
