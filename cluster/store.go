package cluster

import (
	"context"
	"errors"
	"net"
	"time"
)

// Store is where a run's workers write what they must agree on: keys and values, and a bus for what nobody needs to keep. Nats
// is one; tests have another, on virtual time, whose network can be cut.
//
// What Watch tells may be old, and two members may see different things at the same time. Only Swap decides.
type Store interface {
	// Put writes a key.
	Put(ctx context.Context, key string, value []byte) error
	// Swap writes a key that nobody has written since a revision of it, 0 for one that nobody has ever written; else it returns
	// ErrSwapped.
	Swap(ctx context.Context, key string, value []byte, revision uint64) error
	// Watch tells of every key what it holds, then calls current once, and then tells every change, until ctx ends or the store
	// is closed. Calls come one at a time, in the order of the writes. What it holds may be what one of several servers does that is
	// behind. It returns why it ended.
	Watch(ctx context.Context, tell func(Entry), current func()) error
	// Tell gives everybody who listens at the moment a piece of news. It may be lost; with sure it is with the server when Tell
	// returns nil.
	Tell(topic string, p []byte, sure bool) error
	// Listen calls f with the news of a topic, one call at a time, until the returned function is called.
	Listen(topic string, f func(p []byte)) (off func(), err error)
	// Silent is how long the store has been out of reach, 0 when it is not.
	Silent() time.Duration
	// Host is this host's address in the network by which the store is reached.
	Host() string
	Close() error
}

// Entry is what a key holds. Value is the receiver's.
type Entry struct {
	Key      string
	Value    []byte
	Revision uint64
}

// ErrSwapped says that somebody else was faster.
var ErrSwapped = errors.New("cluster: somebody else has written that key")

// The keys of a run, and the topic of its progress.
const (
	keyRun        = "run"        // what it is: a Run
	keyWant       = "want"       // how many workers there should be
	keyGeneration = "generation" // the newest Generation
	keyStop       = "stop"       // once it is there, all save and stop
	keyEnd        = "end"        // what rank 0 reports of a run that went well
	keyMember     = "member."    // and an ID
	keyWord       = "word"       // what a launcher writes to read it, see notice.confirm

	topicEvents = "events"
)

// Loopback tells whether an address is this host's to itself.
func Loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
