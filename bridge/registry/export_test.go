package registry

import "context"

// Await lets a test wait for a change that another replica made.
func (r *Registry) Await(ctx context.Context, revision uint64) error { return r.await(ctx, revision) }

// Page is how many entries one answer of list holds.
const Page = page
