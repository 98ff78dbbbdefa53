package cluster

import (
	"math"
	"os"
	"testing"
)

// Of a process that is not there it is known that it is gone where its number means the same: on this host, and not in another container
// of it.
func TestVanished(t *testing.T) {
	_, err := os.Stat("/proc/self")
	tells := err == nil
	gone := Member{Host: HostID(), Space: pidSpace(), PID: math.MaxInt32}
	here, elsewhere, inside := gone, gone, gone
	here.PID, elsewhere.Host, inside.Space = os.Getpid(), "another", "pid:[1]"
	for what, c := range map[string]struct {
		m    Member
		want bool
	}{"gone": {gone, tells}, "here": {here, false}, "on another host": {elsewhere, false}, "in another container": {inside, false}, "without a number": {Member{Host: HostID(), Space: pidSpace()}, false}} {
		if got := vanished(c.m); got != c.want {
			t.Errorf("%s: %v, expected %v", what, got, c.want)
		}
	}
}
