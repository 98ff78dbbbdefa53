package comm

import (
	"context"
	"errors"
	"testing"
	"time"
)

// A message that its sender withdrew leaves whoever it was meant for waiting, first in the queue as before.
func TestRetract(t *testing.T) {
	tag := MakeTag(OpAllReduce, 1)
	for _, from := range []Rank{1, AnyRank} {
		m := NewMesh(0, 2, RealClock(), time.Minute)
		var p, q [4]byte
		first, second := m.Post(from, tag, p[:]), m.Post(from, tag, q[:])
		_, msg, ok := m.Begin(1, tag, 4)
		if !ok {
			t.Fatal("no room for a message that was asked for")
		}
		m.Retract(msg)
		for i, r := range []Receipt{first, second} {
			buf, msg, ok := m.Begin(1, tag, 2)
			if !ok {
				t.Fatal("no room")
			}
			copy(buf, []byte{byte(i), 7})
			m.End(msg)
			if got, n, err := r.Wait(context.Background()); got != 1 || n != 2 || err != nil {
				t.Fatalf("from %d: receive %d: %d bytes from rank %d, %v", from, i, n, got, err)
			}
		}
		if p[0] != 0 || q[0] != 1 || q[1] != 7 {
			t.Errorf("from %d: %v and %v", from, p, q)
		}
	}
}

// What came meanwhile is for the one who waits; what nobody asked for makes room when it is withdrawn.
func TestRetractBuffered(t *testing.T) {
	tag := MakeTag(OpSend, 1)
	m := NewMesh(0, 2, RealClock(), time.Minute)
	var p [EagerBytes]byte
	r := m.Post(1, tag, p[:])
	_, late, _ := m.Begin(1, tag, EagerBytes)
	buf, msg, ok := m.Begin(1, tag, 1)
	if !ok {
		t.Fatal("no room for the second message")
	}
	buf[0] = 9
	m.End(msg)
	m.Retract(late)
	if _, n, err := r.Wait(context.Background()); n != 1 || p[0] != 9 || err != nil {
		t.Fatalf("%d bytes, %d, %v", n, p[0], err)
	}
	for range 3 {
		_, msg, ok := m.Begin(1, tag, EagerBytes)
		if !ok {
			t.Fatal("a withdrawn message still takes room")
		}
		m.Retract(msg)
	}
}

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
