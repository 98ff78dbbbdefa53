package tcp

import (
	"crypto/tls"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/commtest"
)

// TestExam sits the exam of all transports, without and with TLS.
func TestExam(t *testing.T) {
	both(t, func(t *testing.T, conf *tls.Config) {
		open := func(t *testing.T, n int, timeout time.Duration) []comm.Group {
			lns, addrs := listen(t, n, conf)
			groups, errs := connect(lns, addrs, func(int) Config { return Config{Secret: secret, Timeout: timeout} })
			views := make([]comm.Group, n)
			for r, g := range groups {
				if errs[r] != nil {
					t.Fatal(errs[r])
				}
				views[r] = g
			}
			return views
		}
		sizes := []int{1, 2, 3, 4, 5, 8, 12, 17} // inproc is asked all of them, for less
		if conf != nil || raced {
			sizes = []int{1, 2, 3, 5, 8}
		}
		commtest.Run(t, open, commtest.Options{Sizes: sizes, Sockets: true,
			Kill: func(_ *testing.T, groups []comm.Group, r comm.Rank) { kill(groups[r].(*group)) },
		})
	})
}
