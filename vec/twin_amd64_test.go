//go:build !noasm

package vec

import (
	"testing"

	"golang.org/x/sys/cpu"

	"github.com/covey-ml/covey/rng"
)

// withKernels runs f with the assembly or with the twins.
func withKernels(t *testing.T, assembly bool, f func()) {
	t.Helper()
	if assembly && !(cpu.X86.HasAVX2 && cpu.X86.HasFMA && cpu.X86.HasF16C) {
		t.Skip("this processor has no AVX2, FMA and F16C: there is nothing to compare the twins with")
	}
	was := useAVX2
	useAVX2 = assembly
	defer func() { useAVX2 = was }()
	f()
}

func TestTwinsMatchKernels(t *testing.T) {
	const seed = 7
	for _, k := range kernelCases {
		t.Run(k.name, func(t *testing.T) {
			for round := range 300 {
				n := round % 71
				if round%50 == 49 {
					n = 100 + round*3
				}
				if round > 200 && n > 100 && (k.name[0] == 'M' && k.name[1] == 'a') {
					n = 150 // a product of three such sizes is enough
				}
				kind := round % numKinds
				run := func(assembly bool) (out []float32) {
					s := newSource(seed, kind, rng.Key(0, k.name), uint64(round))
					withKernels(t, assembly, func() { out = k.run(s, n) })
					if err := s.trespass(); err != nil {
						t.Fatalf("seed %d, round %d, n %d, assembly %v: %v", seed, round, n, assembly, err)
					}
					return out
				}
				if err := sameBits(run(true), run(false)); err != nil {
					t.Fatalf("seed %d, round %d, n %d, kind %d: kernel and twin differ: %v", seed, round, n, kind, err)
				}
			}
		})
	}
}
