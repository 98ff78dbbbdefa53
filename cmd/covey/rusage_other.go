//go:build !unix

package main

import "time"

// processorTime is what this process has used of the processors; nil where that cannot be told.
var processorTime func() time.Duration

// peakMemory is the most memory that this process has had, in bytes; nil where that cannot be told.
var peakMemory func() int64
