//go:build !noasm

package vec

import "golang.org/x/sys/cpu"

// eachProduct calls f with every set of kernels for products that this processor has, the twins first.
func eachProduct(f func(kernels string)) {
	was2, was512 := useAVX2, useAVX512
	defer func() { useAVX2, useAVX512 = was2, was512 }()
	useAVX2, useAVX512 = false, false
	f("portable")
	if !cpu.X86.HasAVX2 || !cpu.X86.HasFMA {
		return
	}
	useAVX2 = true
	f("avx2")
	if hasAVX512 {
		useAVX512 = true
		f("avx512")
	}
}
