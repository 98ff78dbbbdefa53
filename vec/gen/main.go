// Command gen writes vec's kernels for AVX2 and FMA, and those of matrix products for AVX-512 and NEON too. All but
// the last come from avo. Run it as go generate ./vec from the repository's root.
// It is a module of its own, so that Covey does not depend on avo.
//
// Each kernel computes the very operations of its twin in vec/twin.go, in the same order for each element. Kernels
// trust lengths. A tail shorter than a vector is read and written under a mask, never past the end.
package main

import (
	"flag"
	"log"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func main() {
	products := flag.Bool("products", false, "write the kernels of matrix products instead of all others")
	arm := flag.String("neon", "", "write the kernel of matrix products for arm64 to this `file`, and nothing else")
	flag.Parse()
	if *arm != "" {
		if err := neon(*arm); err != nil {
			log.Fatal(err)
		}
		return
	}
	ConstraintExpr("!noasm")
	if *products {
		avx512.tile()
		avx2.tile()
		sides()
		transposes()
	} else {
		elementwise()
		functions()
		steps()
		sums()
		sparse()
		scattered()
		codes()
	}
	Generate()
}

// text begins a kernel that keeps nothing it is given.
func text(name, signature, doc string) {
	TEXT(name+"AVX2", NOSPLIT, signature)
	Pragma("noescape")
	Doc(name+"AVX2 "+doc, "See "+name+"Twin for the contract.")
}

func base(name string) GPVirtual { return Load(Param(name).Base(), GP64()).(GPVirtual) }

func length(name string) GPVirtual { return Load(Param(name).Len(), GP64()).(GPVirtual) }

// broadcast fills a vector with a float32 parameter.
func broadcast(name string) VecVirtual {
	a, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	v := YMM()
	VBROADCASTSS(a.Addr, v)
	return v
}

var consts = map[string]Mem{}

// double is a vector of four equal float64 in read-only memory.
func double(x float64) Mem { return quad(math.Float64bits(x)) }

// quad is a vector of four equal 64-bit words in read-only memory.
func quad(bits uint64) Mem {
	return table("q"+hex(bits), 4, func(i int) { DATA(8*i, U64(bits)) })
}

// long is a vector of eight equal 32-bit words in read-only memory.
func long(bits uint32) Mem {
	return table("l"+hex(uint64(bits)), 8, func(i int) { DATA(4*i, U32(bits)) })
}

func table(name string, n int, data func(i int)) Mem {
	if m, ok := consts[name]; ok {
		return m
	}
	m := GLOBL(name, RODATA|NOPTR)
	for i := range n {
		data(i)
	}
	consts[name] = m
	return m
}

func hex(x uint64) string {
	const digits = "0123456789abcdef"
	s := ""
	for ; x != 0 || s == ""; x >>= 4 {
		s = string(digits[x&15]) + s
	}
	return s
}

// tailMask is the mask of the first n of 8 lanes, moved right by skip lanes; n-skip may lie outside of 0 to 8 by
// up to 32. It overwrites nothing.
func tailMask(n Register, skip int) VecVirtual {
	t := table("masks", 72, func(i int) {
		if i < 32 {
			DATA(4*i, U32(0xffffffff))
		} else {
			DATA(4*i, U32(0))
		}
	})
	p, i := GP64(), GP64()
	LEAQ(t.Offset(4*32), p)
	MOVQ(n, i)
	NEGQ(i)
	mask := YMM()
	VMOVDQU(Mem{Base: p, Index: i, Scale: 4, Disp: 4 * skip}, mask)
	return mask
}

// stream is one slice that a kernel walks.
type stream struct {
	name        string
	load, store bool
}

func in(name string) stream    { return stream{name, true, false} }
func out(name string) stream   { return stream{name, false, true} }
func inout(name string) stream { return stream{name, true, true} }

// walk goes through all streams, which are equally long, eight elements at a time, unroll times a turn. body
// gets the vectors loaded and leaves the vectors to store in the same places.
func walk(unroll int, streams []stream, body func(v []VecVirtual)) {
	n := length(streams[0].name)
	ptr := make([]GPVirtual, len(streams))
	for i, s := range streams {
		ptr[i] = base(s.name)
	}
	step := func(copies int, mask *VecVirtual) {
		for u := range copies {
			v := make([]VecVirtual, len(streams))
			for i, s := range streams {
				if !s.load {
					continue
				}
				v[i] = YMM()
				if mask != nil {
					VMASKMOVPS(Mem{Base: ptr[i]}, *mask, v[i])
				} else {
					VMOVUPS(Mem{Base: ptr[i], Disp: 32 * u}, v[i])
				}
			}
			body(v)
			for i, s := range streams {
				if !s.store {
					continue
				}
				if mask != nil {
					VMASKMOVPS(v[i], *mask, Mem{Base: ptr[i]})
				} else {
					VMOVUPS(v[i], Mem{Base: ptr[i], Disp: 32 * u})
				}
			}
		}
	}
	forward := func(copies int) {
		for _, p := range ptr {
			ADDQ(Imm(uint64(32*copies)), p)
		}
	}
	loop := func(label string, copies int) {
		Label(label)
		CMPQ(n, Imm(uint64(8*copies)))
		JLT(LabelRef(label + "_end"))
		step(copies, nil)
		forward(copies)
		SUBQ(Imm(uint64(8*copies)), n)
		JMP(LabelRef(label))
		Label(label + "_end")
	}
	if unroll > 1 {
		loop("wide", unroll)
	}
	loop("narrow", 1)
	TESTQ(n, n)
	JE(LabelRef("done"))
	mask := tailMask(n, 0)
	step(1, &mask)
	Label("done")
	VZEROUPPER()
	RET()
}
