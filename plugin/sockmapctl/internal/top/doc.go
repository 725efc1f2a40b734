// SPDX-License-Identifier: Apache-2.0

// Package top is the terminal view of sockmapctl top. It draws samples that its caller reads. No other
// package of this module imports bubbletea or lipgloss.
package top
