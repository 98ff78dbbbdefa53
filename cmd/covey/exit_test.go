package main

import (
	"errors"
	"fmt"
	"testing"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/train"
)

// Every error has the exit code that the help texts promise.
func TestExitCodes(t *testing.T) {
	for want, errs := range map[int][]error{
		exitDone:        {nil},
		exitFailed:      {errors.New("anything"), &train.DivergedError{}},
		exitUsage:       {usagef("bad"), &train.ConfigError{Key: "model", Err: errors.New("bad")}},
		exitData:        {&data.Error{}, &usageError{&data.Error{}}},
		exitLost:        {&comm.PeerError{Cause: comm.ErrLost}, &cluster.TooFewError{Why: "1 worker is left"}},
		exitInterrupted: {train.ErrStopped, &saidError{errors.New("interrupted"), exitInterrupted}},
	} {
		for _, err := range errs {
			if err != nil {
				err = fmt.Errorf("around: %w", err)
			}
			if got := exitCode(err); got != want {
				t.Errorf("%v exits with %d, expected %d", err, got, want)
			}
		}
	}
}
