package main

// The program prints the same on every platform and for every number of workers.
func Example() {
	main()
	// Output: 2000 steps on 4 workers, loss 4.3734, weights 79b66b629f5e
}
