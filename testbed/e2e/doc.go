// Package e2e tries the built programs as people use them: keyholed on a board,
// keyhole on laptops, foreign players and browsers beside them, on small networks
// of kernel namespaces. It has tests only; they need Linux and root.
package e2e
