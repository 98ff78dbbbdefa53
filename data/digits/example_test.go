package digits_test

import (
	"fmt"

	"github.com/covey-ml/covey/data/digits"
)

// The first training image of seed 1, every other row of it.
func ExampleRenderer() {
	var r digits.Renderer
	pixels := make([]byte, digits.Pixels)
	fmt.Println("digit", r.Draw(pixels, 1, 0))
	for y := 8; y < digits.Side; y += 2 {
		line := ""
		for _, ink := range pixels[y*digits.Side : (y+1)*digits.Side] {
			line += string(" .+#"[ink/64])
		}
		fmt.Printf("|%s|\n", line)
	}
	// Output:
	// digit 7
	// |          ..++#########     |
	// |       .#####++..  ###      |
	// |                  ##+       |
	// |                .##.        |
	// |               +##.         |
	// |              +##           |
	// |             ###            |
	// |            ##+             |
	// |          +##.              |
	// |         +##                |
}
