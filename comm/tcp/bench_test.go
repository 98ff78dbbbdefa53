package tcp

import (
	"context"
	"crypto/tls"
	"fmt"
	"testing"
)

// BenchmarkExchange is two ranks that each send the other a message and wait for its, as a pairwise all-reduce does. The
// bytes a second are those of one direction.
func BenchmarkExchange(b *testing.B) {
	for _, security := range []string{"plain", "tls"} {
		for _, size := range []int{8, 1 << 10, 16 << 10, 256 << 10, 4 << 20} {
			b.Run(fmt.Sprintf("%s/%d", security, size), func(b *testing.B) {
				var conf *tls.Config
				if security == "tls" {
					var err error
					if conf, err = credential(); err != nil {
						b.Fatal(err)
					}
				}
				groups := newGroups(b, 2, conf, patient)
				rounds := func(g *group, n int) error {
					ctx, peer := context.Background(), 1-g.Rank()
					out, in := make([]byte, size), make([]byte, size)
					fillBytes(out, int(g.Rank()))
					for range n {
						r := g.Post(peer, tag, in)
						if err := g.Send(ctx, peer, tag, out); err != nil {
							return err
						}
						if _, _, err := r.Wait(ctx); err != nil {
							return err
						}
					}
					return check(in, int(peer))
				}
				b.SetBytes(int64(size))
				b.ReportAllocs()
				b.ResetTimer()
				done := make(chan error)
				go func() { done <- rounds(groups[1], b.N) }()
				if err := rounds(groups[0], b.N); err != nil {
					b.Fatal(err)
				}
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}

// BenchmarkPingPong is half a round trip of a small message.
func BenchmarkPingPong(b *testing.B) {
	groups := newGroups(b, 2, nil, patient)
	pass := func(g *group, n int, first bool) error {
		ctx, peer, p := context.Background(), 1-g.Rank(), make([]byte, 8)
		for range n {
			if first {
				if err := g.Send(ctx, peer, tag, p); err != nil {
					return err
				}
			}
			if _, _, err := g.Recv(ctx, peer, tag, p); err != nil {
				return err
			}
			if !first {
				if err := g.Send(ctx, peer, tag, p); err != nil {
					return err
				}
			}
		}
		return nil
	}
	b.ReportAllocs()
	b.ResetTimer()
	done := make(chan error)
	go func() { done <- pass(groups[1], b.N/2+1, false) }()
	if err := pass(groups[0], b.N/2+1, true); err != nil {
		b.Fatal(err)
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}
