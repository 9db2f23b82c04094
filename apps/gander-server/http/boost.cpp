// The parts of Asio and Beast that need be compiled only once.
#include <boost/asio/impl/src.hpp>
#include <boost/beast/src.hpp>
