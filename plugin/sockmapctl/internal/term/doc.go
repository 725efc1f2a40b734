// SPDX-License-Identifier: Apache-2.0

// Package term prints for people: tables, labelled lines and units. It removes from foreign text the
// characters that could control a terminal. It knows nothing about sockmap.
package term
