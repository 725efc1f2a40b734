// SPDX-License-Identifier: Apache-2.0

// Package term prints for people: tables, labelled lines, units, and text of others without what could steer the
// terminal. It knows nothing about sockmap.
package term
