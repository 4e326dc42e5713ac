#pragma once

#include <span>
#include <string>

namespace vitrine::vf_sim {

class Vf;

/// Does what an operator's line says: `[vf N] COMMAND [ARGUMENT]`. Commands of the port reach every function, others
/// function N, or 0. `status` does nothing.
/// Throws std::invalid_argument naming what is wrong; then nothing was done.
void execute(const std::string& line, std::span<Vf* const> functions);

/// One line for each command, for --help.
std::string command_help();

}  // namespace vitrine::vf_sim
