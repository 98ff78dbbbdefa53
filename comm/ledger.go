package comm

import (
	"fmt"
	"sync"
)

// Ledger is the books of what one rank sends: what each operation announced by its closed form, and what really went
// out. Any number of goroutines may use it.
type Ledger struct {
	mu    sync.Mutex
	step  int
	since Books // since the last Take
	total Books
}

// Entry is one line of the books. All are bytes, save the messages.
type Entry struct {
	Messages         int64
	Payload          int64 // what programs sent
	Header           int64 // what it took to carry that
	Control          int64 // what the system said to itself, its headers included
	ExpectedMessages int64
	Expected         int64 // payload and header that the operations announced
}

// Sent is all bytes of the entry.
func (e Entry) Sent() int64 { return e.Payload + e.Header + e.Control }

// Closes tells whether what was sent is what was announced, to the message and the byte. Control is never announced.
func (e Entry) Closes() bool {
	return e.Payload+e.Header == e.Expected && e.Messages == e.ExpectedMessages
}

func (e *Entry) add(f Entry) {
	e.Messages += f.Messages
	e.Payload += f.Payload
	e.Header += f.Header
	e.Control += f.Control
	e.ExpectedMessages += f.ExpectedMessages
	e.Expected += f.Expected
}

// Books hold an entry for each operation: Books[OpAllReduce], and so on.
type Books [numOps]Entry

// Sum is all operations in one entry.
func (b *Books) Sum() (e Entry) {
	for _, f := range b {
		e.add(f)
	}
	return e
}

// Add adds the entries of o, another rank's or another step's, to b.
func (b *Books) Add(o *Books) {
	for i := range b {
		b[i].add(o[i])
	}
}

// String returns a line for each operation that has something, and says where the books do not close.
func (b *Books) String() string {
	s := ""
	for op, e := range b {
		if e == (Entry{}) {
			continue
		}
		s += fmt.Sprintf("%v: %d messages, %d payload, %d header, %d control", Op(op), e.Messages, e.Payload, e.Header, e.Control)
		if !e.Closes() {
			s += fmt.Sprintf("; announced %d messages, %d bytes", e.ExpectedMessages, e.Expected)
		}
		s += "\n"
	}
	return s
}

// NewLedger returns empty books at step -1, that is, outside of any step.
func NewLedger() *Ledger { return &Ledger{step: -1} }

// SetStep says which step what follows belongs to. PeerErrors that pass through a counting group carry it.
func (l *Ledger) SetStep(step int) {
	l.mu.Lock()
	l.step = step
	l.mu.Unlock()
}

// Step returns the step that was set last.
func (l *Ledger) Step() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.step
}

// Take returns what was booked since the last Take, and the step that is set: called once a step, it returns that
// step's books.
func (l *Ledger) Take() (step int, b Books) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, l.since = l.since, Books{}
	return l.step, b
}

// Totals returns everything that was booked.
func (l *Ledger) Totals() Books {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

// Book enters bytes under an operation.
func (l *Ledger) Book(op Op, e Entry) {
	l.mu.Lock()
	l.since[op].add(e)
	l.total[op].add(e)
	l.mu.Unlock()
}
