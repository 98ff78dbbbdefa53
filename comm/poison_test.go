package comm

import (
	"context"
	"errors"
	"testing"
	"time"
)

// Who hears of a poison tells it on when it gives up itself, for it may be gone before the first teller is heard.
func TestPoisonIsPassedOn(t *testing.T) {
	m := NewMesh(0, 3, RealClock(), time.Minute)
	var told [3]int
	for r := Rank(1); r < 3; r++ {
		m.Connect(r, &tellTale{n: &told[r]})
	}
	e := &PeerError{Rank: 2, Op: OpBarrier, Step: -1, Cause: ErrLost}
	m.Aborted(e)
	for range 2 {
		if got := m.Poison(&PeerError{Rank: 1, Op: OpBarrier, Step: -1, Cause: ErrLeft}); got != e {
			t.Errorf("Poison says %v", got)
		}
	}
	if told != [3]int{0, 1, 1} {
		t.Errorf("told %v times, want each peer once", told)
	}
}

// tellTale is a link that counts aborts.
type tellTale struct{ n *int }

func (l *tellTale) Send(context.Context, Tag, []byte) error { return errors.New("no link") }
func (l *tellTale) Abort(*PeerError)                        { *l.n++ }
func (l *tellTale) Break(error)                             {}
func (l *tellTale) Close() error                            { return nil }
