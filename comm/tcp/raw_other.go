//go:build !linux

package tcp

import (
	"time"
)

// Elsewhere connections stay with Go's runtime, each with a goroutine that reads.

type raw struct{ wait func() error }

func (r *raw) Read([]byte) (int, error)       { panic("tcp: no raw sockets here") }
func (r *raw) write(_, _ []byte) (int, error) { panic("tcp: no raw sockets here") }
func (r *raw) end()                           {}
func (r *raw) endWriting()                    {}
func (r *raw) close()                         {}

type engine struct{}

func newEngine(*group) *engine           { return nil }
func (e *engine) take(*socket) error     { return nil }
func (e *engine) start()                 {}
func (e *engine) ring()                  {}
func (e *engine) writable(*link)         {}
func (e *engine) drain(*link, time.Time) {}
func (e *engine) close()                 {}
func (e *engine) led() bool              { return false }
