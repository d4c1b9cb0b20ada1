"""cli (essay follows)"""
