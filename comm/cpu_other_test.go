//go:build !unix

package comm_test

import "time"

// cpuTime is not known here; the goroutines are still counted.
func cpuTime() time.Duration { return 0 }
