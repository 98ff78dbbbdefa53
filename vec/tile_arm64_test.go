//go:build !noasm

package vec

// eachProduct calls f with the twins and with the kernels for products.
func eachProduct(f func(kernels string)) {
	was := useNEON
	defer func() { useNEON = was }()
	useNEON = false
	f("portable")
	useNEON = true
	f("neon")
}
