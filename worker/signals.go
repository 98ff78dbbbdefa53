package worker

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/covey-ml/covey/comm"
)

// OnSignals calls f at each interrupt, termination or end of the terminal, again telling whether it is not the first,
// until the returned function is called. Meanwhile, that nobody reads the progress any more does not end the process.
func OnSignals(f func(again bool)) (off func()) {
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // else it was started with nohup
		signal.Notify(ch, syscall.SIGHUP)
	}
	unread := make(chan os.Signal, 1)
	signal.Notify(unread, syscall.SIGPIPE)
	quit := make(chan struct{})
	comm.RealClock().Go(func() {
		for n := 0; ; n++ {
			select {
			case <-ch:
				f(n > 0)
			case <-quit:
				return
			}
		}
	})
	return func() {
		signal.Stop(ch)
		signal.Stop(unread)
		close(quit)
	}
}
