//go:build !unix

package main

import "time"

// processorTime is what this process has used of the processors; nil where that cannot be told.
var processorTime func() time.Duration
