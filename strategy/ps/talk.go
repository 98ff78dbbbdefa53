package ps

import (
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/optim"
)

// What workers and servers send each other, in closed form. A push is HeadBytes and of each part the server's elements, an answer
// these elements alone.

// HeadBytes is the length of a request without elements.
const HeadBytes = headBytes

// Talk is how many messages a worker sends a server, and gets from it.
type Talk struct {
	Pushes  int
	Bare    int // requests without elements
	Answers int
}

// InStep is what a worker and each server say in step t, from 1, beside asking for microshards. With backup workers it is that of a
// worker which never comes late; where microshards are dealt, each that it gets is a push.
func (c Config) InStep(t int) Talk {
	push, fetch := c.periods()
	pushes, pulls := t%push == 0, t%fetch == 0
	switch {
	case c.Deal:
		return Talk{Bare: 1, Answers: 1}
	case pushes && pulls:
		return Talk{Pushes: 1, Answers: 1}
	case pushes:
		return Talk{Pushes: 1}
	case pulls:
		return Talk{Bare: 1, Answers: 1}
	}
	return Talk{}
}

// AtMeeting is what they say when all meet after step t.
func (c Config) AtMeeting(t int) Talk {
	m := Talk{Bare: 1}
	if push, _ := c.periods(); t%push != 0 {
		m.Pushes = 1
	}
	if !c.Held() {
		m.Answers = 1
	}
	return m
}

// OneSum tells whether a worker pushes one sum, and not each of its parts.
func (c Config) OneSum() bool { return c.Deal || c.Mode == Downpour }

// sums is how many sums a worker pushes.
func (c Config) sums(t comm.Tree, who comm.Rank) int {
	if c.OneSum() {
		return 1
	}
	return t.Vectors(who)
}

// Exact tells whether who sends what is a function of the configuration. If not, why says on what it hangs.
func (c Config) Exact() (ok bool, why string) {
	switch {
	case c.Deal:
		return false, "who gets how many microshards hangs on time: as if all were equally fast"
	case c.Mode == Backup:
		return false, "how often a push comes too late hangs on time: as if none did"
	}
	return true, ""
}

// ShutBytes is how long a message is by which server 0 tells another which pushes of so many workers' count.
func ShutBytes(workers int) int { return headBytes + 4*((workers+31)/32) }

// Ranges is how many elements each server has: of the frame, which is what messages have, and of the parameters in it.
func (c Config) Ranges(l model.Layout, o optim.Optimizer) (frame, parameters []int, err error) {
	ranges, err := divide(l, o, c.Servers, false)
	for _, r := range ranges {
		lo, hi := r.flat()
		frame, parameters = append(frame, r.hi-r.lo), append(parameters, hi-lo)
	}
	return frame, parameters, err
}
