package tcp

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
)

// Whoever is sent away is told of, by address and reason, and whoever belongs to the group is not.
func TestRefusedIsTold(t *testing.T) {
	lns, addrs := listen(t, 2, nil)
	told := make(chan [2]string, 16)
	cfg := Config{Generation: 7, Secret: secret, Refused: func(addr, why string) { told <- [2]string{addr, why} }}
	var groups [2]comm.Group
	var errs [2]error
	var wg sync.WaitGroup
	wg.Go(func() { groups[0], errs[0] = lns[0].Connect(context.Background(), 0, addrs, cfg) })
	for name, want := range map[string]string{"HTTP": "magic", "wrong generation": "this is generation 7", "proof out of the air": "secret"} {
		c, err := net.Dial("tcp", addrs[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(strangersWords()[name]); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-told:
			if got[0] != c.LocalAddr().String() || !strings.Contains(got[1], want) {
				t.Errorf("%s from %s: told %q, expected %q", name, c.LocalAddr(), got, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: nobody was told", name)
		}
		c.Close()
	}
	wg.Go(func() { groups[1], errs[1] = lns[1].Connect(context.Background(), 1, addrs, cfg) })
	wg.Wait()
	for r := range groups {
		if errs[r] != nil {
			t.Fatal(errs[r])
		}
		defer groups[r].Close()
	}
	if len(told) > 0 {
		t.Errorf("told of %q, which belongs here", <-told)
	}
}
